// Room 6: what is personal leaves every text that the library is given, and what is useful stays.
#include "check.hpp"

#include "fakes.hpp"

#include <limits>
#include <map>
#include <set>
#include <stdexcept>

namespace {

using nucleus::Outcome;
using nucleus::PersonalData;
using nucleus::Property;
using nucleus::detail::Pieces;
using nucleus::detail::Redaction;

struct Row {
  std::string_view given, expected, reason;
};

/// One that changes is refused as a user id, one that stays is taken as one.
constexpr Row rows[] = {
    // ---- e-mail addresses ----
    {"ann@example.org", "[email]", "an address alone"},
    {" ann@example.org ", " [email] ", "among blanks"},
    {"ann@example.org wrote", "[email] wrote", "at the beginning"},
    {"write to ann@example.org", "write to [email]", "at the end"},
    {"write to ann@example.org.", "write to [email].", "at the end of a sentence"},
    {"is it ann@example.org?", "is it [email]?", "before a question mark"},
    {"Ann <ann@example.org>", "Ann <[email]>", "in angle brackets"},
    {"a@b.co,c@d.co;e@f.co", "[email],[email];[email]", "several, as in a list"},
    {"a@b.co c@d.co", "[email] [email]", "several, between blanks"},
    {"a@b.co/c@d.co", "[email]/[email]", "several, between slashes"},
    {"a@b@example.org", "a@[email]", "what stands before the last @ names nobody"},
    {"(ann@example.org)", "([email])", "in brackets"},
    {"'ann@example.org'", "'[email]'", "in apostrophes, which may also be part of one"},
    {"o'brien@example.org", "[email]", "as here"},
    {R"({"mail":"ann@example.org"})", R"({"mail":"[email]"})", "in JSON"},
    {R"({\"mail\":\"ann@example.org\"})", R"({\"mail\":\"[email]\"})", "in JSON inside JSON"},
    {R"(mail:\nann@example.org)", R"(mail:\[email])", "behind an escaped line break"},
    {R"(mail:\\nann@example.org)", R"(mail:\\[email])", "and what looks like a Windows host"},
    {"mail=ann@example.org&x=1", "mail=[email]&x=1", "in a form"},
    {"line\nann@example.org\nline", "line\n[email]\nline", "on a line of its own"},
    {"ann.b+tag@mail.example.co.uk", "[email]", "dots, a tag, and a deep domain"},
    {"a_b-c%d@ex-ample.org", "[email]", "every usual mark"},
    {"a!#$^*`{|}'b@example.org", "[email]", "every unusual one"},
    {"ANN@EXAMPLE.ORG", "[email]", "in capitals"},
    {"1@2.co", "[email]", "all digits but the last label"},
    {"ann@example.org.", "[email].", "with the dot of a full domain name"},
    {"ann.@example.org", "[email]", "a dot at the end, as some providers allow"},
    {".ann@example.org", ".[email]", "a dot at the beginning, which is nobody's"},
    {"ann@example.org:25", "[email]:25", "with a port"},
    {"ann@example.org-x", "[email]-x", "glued to what follows"},
    {"ann@example.org_1", "[email]_1", "glued to a number"},
    {"ann@example.org.json", "[email].json", "a file named by an address"},
    {"ann@example.nextdirect", "[email]", "a top-level domain that begins as a tag does"},
    {"\"ann b\"@example.org", "[email]", "a quoted local part"},
    {"\"ann@b\"@example.org", "[email]", "with an @ in it"},
    {"%22ann%20b%22@example.org", "[email]", "quoted and percent-encoded"},
    {"\"c@d.co x\"@example.org", "\"[email] x\"@example.org", "quoted around an address"},
    {"ann@[192.168.0.1]", "[email]", "the literal of an IPv4 address as domain"},
    {"ann@[IPv6:2001:db8::1]", "[email]", "that of an IPv6 address"},
    {"ann@xn--mnchen-3ya.de", "[email]", "an international domain on the wire"},
    {"ann@example.xn--p1ai", "[email]", "an international top-level domain on the wire"},
    {"ann@m\xC3\xBCnchen.de", "[email]", "an international domain as it is read"},
    {"j\xC3\xBCrgen@example.org", "[email]", "an international local part"},
    {"\xE7\x94\xA8@\xE4\xBE\x8B.\xE5\x85\xAC\xE5\x8F\xB8", "[email]", "no letter of ASCII in it"},
    {"mailto:ann@example.org", "mailto:[email]", "a mailto: link"},
    {"mailto:ann@example.org?cc=b@c.co", "mailto:[email]?cc=[email]", "with a copy to another"},
    {"mailto:ann@m%C3%BCnchen.de", "mailto:[email]", "with a percent-encoded domain"},
    {"mailto:%C3%BCnn@example.org", "mailto:[email]", "with a percent-encoded local part"},
    {"x@%E4%BE%8B.%E5%85%AC%E5%8F%B8", "[email]", "with a percent-encoded top-level domain"},
    {"https://ann@example.org/x", "https://[email]/x", "user info of a URL"},
    {"https://x:pw@example.org:80/y", "https://x:[email]:80/y", "user info with a password"},
    {"https://h.org/ann@example.org", "https://h.org/[email]", "in the path of a URL"},
    {"https://h.org/?m=ann@example.org#b@c.co", "https://h.org/?m=[email]#[email]",
     "in the query and in the fragment"},
    {"file://ann@example.org/x", "file://[email]/x", "where the host of a file stands"},
    {R"(\\ann@example.org\x)", R"(\\[email]\x)", "where the host of a share stands"},
    {"ssh://git@h.org/x", "ssh://[email]/x", "an account is written like an address"},
    {"https://h.org/?m=ann%40example.org", "https://h.org/?m=[email]", "the @ percent-encoded"},
    {"https://h.org/?m=ann%2540example.org&x", "https://h.org/?m=[email]&x", "twice"},
    {"m=ann%252540example.org&x", "m=[email]&x", "three times"},
    {"ann%40example%2Eorg", "[email]", "the dot percent-encoded"},
    {"ann@example.%6Frg", "[email]", "a letter of the top-level domain percent-encoded"},
    {"prefix:a@b.co", "prefix:[email]", "behind a prefix"},
    {"~ann@example.org", "~[email]", "behind the mark of a home folder"},
    {"[email]ann@example.org", "[email][email]", "behind the mark of another"},

    // ---- home folders ----
    {"/home/ann/game/save.dat", "~/game/save.dat", "Linux"},
    {"/home/ann", "~", "without a trailing separator"},
    {"/home/ann/", "~/", "with one"},
    {"/home//ann/x", "~/x", "with two separators"},
    {"//home/ann/x", "~/x", "with two at the front"},
    {"/home/ann smith/x", "~ smith/x", "no home folder on Linux has a blank in its name"},
    {"/home/j\xC3\xBCrgen/x", "~/x", "a name that is not ASCII"},
    {"/home/\xE7\x94\xA8", "~", "not a letter of ASCII in it"},
    {"/home/ann@example.org/x", "~/x", "named by an address"},
    {"/home/ann/home/x", "~/home/x", "a folder home inside it"},
    {"/var/home/ann/x", "~/x", "Fedora Silverblue"},
    {"/usr/home/ann/x", "~/x", "FreeBSD"},
    {"/export/home/ann/x", "~/x", "Solaris"},
    {"/Users/ann/Library", "~/Library", "macOS"},
    {"/Users/ann", "~", "macOS, without a trailing separator"},
    {"/System/Volumes/Data/Users/ann/x", "~/x", "macOS, through the volume"},
    {R"(C:\Users\ann\AppData)", R"(~\AppData)", "Windows"},
    {R"(C:\Users\ann)", "~", "Windows, without a trailing separator"},
    {R"(c:\users\ann\x)", R"(~\x)", "Windows knows no case"},
    {R"(D:\Users\ann\x)", R"(~\x)", "another drive"},
    {"C:/Users/ann/x", "~/x", "Windows, with forward slashes"},
    {R"(C:\Users/ann\x)", R"(~\x)", "Windows, with both"},
    {R"(C:\Users\Ann Lee\x)", R"(~\x)", "Windows, with a blank in the name"},
    {R"(C:\Users\Ann Lee)", "~", "with a blank and without a trailing separator"},
    {"C:\\Users\\J\xC3\xBCrgen\\x", R"(~\x)", "Windows, not ASCII"},
    {R"(C:\Users\ANN~1\x)", R"(~\x)", "the short name of a folder"},
    {R"(C:\Users\ann.lee\x)", R"(~\x)", "a dot in the name"},
    {R"(C:\\Users\\ann\\x)", R"(~\\x)", "escaped, as in JSON or in a source"},
    {R"({"path":"C:\\Users\\ann"})", R"({"path":"~"})", "in JSON"},
    {R"(C:\Documents and Settings\ann\x)", R"(~\x)", "an older Windows"},
    {R"(\Users\ann\x)", R"(~\x)", "without the drive"},
    {R"(\\?\C:\Users\ann\x)", R"(\\?\~\x)", "a long path"},
    {R"(\\server\Users\ann\x)", R"(\\server~\x)", "on another machine"},
    {R"(\\server\share\Users\ann)", R"(\\server\share~)", "in a share of it"},
    {R"(\\wsl$\Ubuntu\home\ann\x)", R"(\\wsl$\Ubuntu~\x)", "WSL, from Windows"},
    {R"(\\wsl.localhost\Ubuntu\home\ann)", R"(\\wsl.localhost\Ubuntu~)", "the same, newer"},
    {"//wsl$/Ubuntu/home/ann/x", "//wsl$/Ubuntu~/x", "the same, with forward slashes"},
    {"/mnt/c/Users/ann/x", "~/x", "Windows, from WSL"},
    {"/mnt/c/Users/Ann Lee/x", "~/x", "Windows, from WSL, with a blank"},
    {"/cygdrive/c/Users/ann/x", "~/x", "Windows, from Cygwin"},
    {"/c/Users/ann/x", "~/x", "Windows, from MSYS"},
    {"file:///home/ann/x", "file://~/x", "a URL of a file"},
    {"file:/home/ann/x", "file:~/x", "as Java writes it"},
    {"FILE:///Users/ann/x", "FILE://~/x", "in capitals"},
    {"file:///C:/Users/ann/x", "file://~/x", "of a file on Windows"},
    {"file:///C:/Users/Ann%20Lee/x", "file://~/x", "with an encoded blank"},
    {"file://localhost/home/ann/x", "file://localhost~/x", "with a host"},
    {"file://wsl.localhost/Ubuntu/home/ann", "file://wsl.localhost/Ubuntu~", "in WSL"},
    {"app:///home/ann/x", "app://~/x", "any URL without a host"},
    {"jar:file:/home/ann/x.jar!/a", "jar:file:~/x.jar!/a", "a URL in a URL"},
    {"file%3A%2F%2F%2Fhome%2Fann%2Fx", "file%3A%2F%2F~%2Fx", "percent-encoded"},
    {"%2Fhome%2Fann%2Fx", "~%2Fx", "percent-encoded, without the scheme"},
    {"%252Fhome%252Fann%252Fx", "~%252Fx", "percent-encoded twice"},
    {"C%3A%5CUsers%5Cann%5Cx", "~%5Cx", "Windows, percent-encoded"},
    {"%43%3A%5CUsers%5Cann", "~", "the drive too"},
    {"https://h.org/?p=/home/ann/x", "https://h.org/?p=~/x", "in the query of a URL"},
    {"https://h.org/?p=%2Fhome%2Fann%2Fx", "https://h.org/?p=~%2Fx", "encoded in a query"},
    {"../../home/ann/x", "../..~/x", "as a relative path"},
    {"HOME=/home/ann", "HOME=~", "in the environment"},
    {"/home/ann/bin:/home/ann/go:/usr/bin", "~/bin:~/go:/usr/bin", "in a list, as PATH"},
    {R"(C:\Users\ann;C:\Users\bob)", "~;~", "in a list on Windows"},
    {R"(C:\Users\ann C:\Users\bob)", "~ ~", "in a command line on Windows"},
    {"open '/home/ann': denied", "open '~': denied", "in apostrophes, at the end"},
    {"a|/home/ann|b", "a|~|b", "between bars"},
    {"<(/home/ann),[/home/ann],{/home/ann}>", "<(~),[~],{~}>", "in brackets of each kind"},
    {"\xE6\x96\x87/home/ann/x", "\xE6\x96\x87~/x", "behind a script that has no blanks"},
    {"#0 0x7f in main /home/ann/x.cpp:3", "#0 0x7f in main ~/x.cpp:3", "a stack of C++"},
    {"/home/ann/a.so(_Z1fv+0x1d) [0x7f]", "~/a.so(_Z1fv+0x1d) [0x7f]", "one of backtrace(3)"},
    {"    at f (/home/ann/a.js:1:5)\n    at g (file:///Users/ann/b.mjs:1:2)",
     "    at f (~/a.js:1:5)\n    at g (file://~/b.mjs:1:2)", "a stack of JavaScript"},
    {R"(    at C:\Users\Ann Lee\a.js:10:5)", R"(    at ~\a.js:10:5)", "the same on Windows"},
    {"  File \"/home/ann/a.py\", line 3, in f\n  File \"C:\\Users\\Ann Lee\\a.py\", line 4",
     "  File \"~/a.py\", line 3, in f\n  File \"~\\a.py\", line 4", "a stack of Python"},
    {"  at G.F() in C:\\Users\\ann\\G.cs:line 12\n  at G.F() in /Users/ann/G.cs:line 3",
     "  at G.F() in ~\\G.cs:line 12\n  at G.F() in ~/G.cs:line 3", "a stack of C#"},
    {"\tat x.F(F.java:5) [file:/home/ann/x.jar!/:?]", "\tat x.F(F.java:5) [file:~/x.jar!/:?]",
     "a stack of Java"},

    // ---- addresses of the network, as a whole ----
    {"192.168.0.1", "[ip]", "IPv4"},
    {" 192.168.0.1\n", "[ip]", "with blanks around"},
    {"0.0.0.0", "[ip]", "the least"},
    {"255.255.255.255", "[ip]", "the most"},
    {"192.168.000.001", "[ip]", "with leading zeros"},
    {"192.168.0.1:8080", "[ip]", "with a port"},
    {"192.168.0.1:123456", "[ip]", "with a number that is no port"},
    {"192.168.0.1/24", "[ip]", "with the length of a prefix"},
    {"[192.168.0.1]:80", "[ip]", "in brackets"},
    {"192%2E168%2E0%2E1", "[ip]", "percent-encoded"},
    {"192.168.0.1%3A80", "[ip]", "with an encoded port"},
    {"1.0.0.0", "[ip]", "a version of four parts looks the same, but for its name"},
    {"2001:db8::1", "[ip]", "IPv6"},
    {"2001:DB8:0:0:0:0:0:1", "[ip]", "IPv6 in full, in capitals"},
    {"2001:0db8:0000:0000:0000:0000:0000:0001", "[ip]", "IPv6 with every zero"},
    {"2001:db8::", "[ip]", "the zeros at the end"},
    {"2001:db8::192.0.2.1", "[ip]", "the end in decimal"},
    {"2000::1", "[ip]", "the first global one"},
    {"3fff::1", "[ip]", "the last"},
    {"fc00::1", "[ip]", "the first unique local one"},
    {"fdff:1::1", "[ip]", "the last"},
    {"fe80::1", "[ip]", "the first link-local one"},
    {"febf::1", "[ip]", "the last"},
    {"fe80::1%eth0", "[ip]", "with a zone"},
    {"fe80::1%25eth0", "[ip]", "with an encoded zone"},
    {"[2001:db8::1]", "[ip]", "in brackets"},
    {"[2001:db8::1]:8080", "[ip]", "with a port"},
    {"[fe80::1%25eth0]:80", "[ip]", "with a zone and a port"},
    {"fe80::1%", "[ip]", "with an empty zone"},
    {"fe80::1%a@b.co", "fe80::[email]", "with an address where the zone stands"},
    {"fe80::1%20/home/a@b", "fe80::1%20~", "with a home folder there"},
    {"2001:db8::1/64", "[ip]", "with the length of a prefix"},
    {"[2001:db8::1]/64", "[ip]", "in brackets with the length of a prefix"},
    {"fe80::1%en0/64", "[ip]", "with a zone and the length of a prefix"},
    {"::ffff:192.168.0.1", "[ip]", "IPv4 as IPv6"},
    {"::FFFF:c0a8:1", "[ip]", "the same in hexadecimal"},
    {"0:0:0:0:0:ffff:192.168.0.1", "[ip]", "the same in full"},
    {"0000:0000:0000:0000:0000:ffff:c0a8:0001", "[ip]", "the same with every zero"},
    {"0::ffff:192.168.0.1", "[ip]", "the same with some"},
    {"[::ffff:192.168.0.1]:443", "[ip]", "the same with a port"},
    {"2001%3Adb8%3A%3A1", "[ip]", "IPv6, percent-encoded"},
    {"%5B2001%3Adb8%3A%3A1%5D", "[ip]", "in brackets, percent-encoded"},
    {"00:1B:44:11:3A:B7", "[mac]", "EUI-48"},
    {"00-1b-44-11-3a-b7", "[mac]", "as Windows writes it"},
    {"001b.4411.3ab7", "[mac]", "as Cisco does"},
    {"00:1b:44:11:3a:b7 ", "[mac]", "with a blank behind"},
    {"02:00:5e:10:00:00:00:01", "[mac]", "EUI-64"},
    {"02-00-5e-10-00-00-00-01", "[mac]", "EUI-64 as Windows writes it"},
    {"0200.5e10.0000.0001", "[mac]", "EUI-64 as Cisco does"},
    {"00%3A1B%3A44%3A11%3A3A%3AB7", "[mac]", "percent-encoded"},

    // ---- international phone numbers, as a whole ----
    {"+12025550123", "[phone]", "E.164"},
    {"+12345678", "[phone]", "the shortest"},
    {"+123456789012345", "[phone]", "the longest"},
    {"+1 202 555 0123", "[phone]", "with blanks"},
    {"+1-202-555-0123", "[phone]", "with dashes"},
    {"+1.202.555.0123", "[phone]", "with dots"},
    {"+1 (202) 555-0123", "[phone]", "with brackets"},
    {"(+1) 202 555 0123", "[phone]", "with the country in brackets"},
    {"+49 (0)30 123456", "[phone]", "with what is left out from abroad"},
    {"+49 30/123456", "[phone]", "with a slash, as in Germany"},
    {"+33\xC2\xA0"
     "1\xE2\x80\xAF"
     "02\xE2\x80\x91"
     "030405",
     "[phone]", "without line breaks"},
    {"tel:+12025550123", "[phone]", "as a link"},
    {"TEL:+1-202-555-0123", "[phone]", "as a link in capitals"},
    {"%2B12025550123", "[phone]", "percent-encoded"},
    {"  +12025550123  ", "[phone]", "with blanks around"},

    // ---- what stays: words with an @ ----
    {"@handle", "@handle", "the name of an account elsewhere"},
    {"user@", "user@", "half an address"},
    {"@", "@", "a sign"},
    {"@@@", "@@@", "several"},
    {"ann @ example.org", "ann @ example.org", "blanks around it"},
    {"\"a sentence in quotes, which is far too long for the name of anybody\"@example.org",
     "\"a sentence in quotes, which is far too long for the name of anybody\"@example.org",
     "no name is that long"},
    {"user@host", "user@host", "no top-level domain"},
    {"a@b.c", "a@b.c", "one letter is none"},
    {"ann@example..org", "ann@example..org", "an empty label"},
    {"ann@192.168.0.1", "ann@192.168.0.1", "a login, not an address of mail"},
    {"icon@2x.png", "icon@2x.png", "an image for fine screens"},
    {"icon@3x.WEBP", "icon@3x.WEBP", "another"},
    {"f@app.js:1:2", "f@app.js:1:2", "a stack of Firefox"},
    {"f@https://h.org/a.js:1:2", "f@https://h.org/a.js:1:2", "a stack of Safari"},
    {"lodash@npm.latest", "lodash@npm.latest", "a package"},
    {"lodash@4.17.21", "lodash@4.17.21", "a package with its version"},
    {"@types/node@18.0.0-beta.1", "@types/node@18.0.0-beta.1", "one in a scope"},
    {"java.lang.Object@1b6d3586", "java.lang.Object@1b6d3586", "an object of Java"},
    {"memcpy@@GLIBC_2.14", "memcpy@@GLIBC_2.14", "a symbol with its version"},
    {"puts@plt+0x10", "puts@plt+0x10", "a symbol in a table"},
    {"@media (min-width: 2.5em)", "@media (min-width: 2.5em)", "a style sheet"},
    {"(@_@) :@ >:@", "(@_@) :@ >:@", "emoticons"},
    {"//a[@id='x']/@href", "//a[@id='x']/@href", "XPath"},
    {R"(^[\w.+-]+@[\w-]+\.[a-z]{2,}$)", R"(^[\w.+-]+@[\w-]+\.[a-z]{2,}$)", "a regex"},
    {"SELECT 1 WHERE a = @p AND b LIKE '%x@%'", "SELECT 1 WHERE a = @p AND b LIKE '%x@%'", "SQL"},
    {"100%40", "100%40", "an encoded @ alone"},

    // ---- what stays: paths ----
    {"/home", "/home", "nobody's folder"},
    {"/home/", "/home/", "nor this"},
    {"/Users", "/Users", "nobody's on macOS"},
    {"/Users/", "/Users/", "nor this"},
    {R"(C:\Users\)", R"(C:\Users\)", "nobody's on Windows"},
    {R"(C:\Users\ )", R"(C:\Users\ )", "nor with a blank, which is no name"},
    {"/homestead/x", "/homestead/x", "another word"},
    {"/home2/x", "/home2/x", "and another"},
    {"/users/42", "/users/42", "a resource of a server"},
    {"home/x", "home/x", "not where a path begins"},
    {"./home/x", "./home/x", "nor here"},
    {"/api/home/x", "/api/home/x", "nor here"},
    {"api/home/x", "api/home/x", "nor here"},
    {"~/home/x", "~/home/x", "already without a name"},
    {"@/home/Page.vue", "@/home/Page.vue", "the root of the sources"},
    {"https://host/home/x", "https://host/home/x", "behind a URL's host"},
    {"https://host:80/home/x", "https://host:80/home/x", "and its port"},
    {"https://host/Users/x", "https://host/Users/x", "the same with the name of macOS"},
    {"https://host/C:/Users/x", "https://host/C:/Users/x", "and of Windows"},
    {"//host/home/x", "//host/home/x", "a URL without its scheme"},
    {"/usr/lib/libm.so.6", "/usr/lib/libm.so.6", "the system's own"},
    {R"(C:\Windows\System32\x.dll)", R"(C:\Windows\System32\x.dll)", "that of Windows"},
    {R"(\\server\share\x)", R"(\\server\share\x)", "a share"},
    {"assets/level 1/tree_01.ktx", "assets/level 1/tree_01.ktx", "a file of the program"},
    {"and/or 1/2 w/o", "and/or 1/2 w/o", "slashes in a sentence"},

    // ---- what stays: numbers ----
    {"1.2.3", "1.2.3", "a version"},
    {"v1.2.3.4", "v1.2.3.4", "one of four parts"},
    {"1.2.3.4-beta+5", "1.2.3.4-beta+5", "one with a suffix"},
    {"1.2.3.4.5", "1.2.3.4.5", "five parts"},
    {"10.0.19045.1", "10.0.19045.1", "of Windows"},
    {"256.1.1.1", "256.1.1.1", "more than a byte"},
    {"2024-05-06", "2024-05-06", "a date"},
    {"06.05.2024", "06.05.2024", "a date in Germany"},
    {"2024-05-06T07:08:09.123+02:00", "2024-05-06T07:08:09.123+02:00", "a time"},
    {"12:34:56", "12:34:56", "a time of the day"},
    {"12-05-23-10-22-33", "12-05-23-10-22-33", "a time like a MAC without letters"},
    {"12:05:23:10:22:33", "12:05:23:10:22:33", "the same with colons"},
    {"1000.2000.3000", "1000.2000.3000", "a number like a MAC without letters"},
    {"550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000", "a UUID"},
    {"da39a3ee5e6b4b0d3255bfef95601890afd80709", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
     "a hash of git"},
    {"001b44113ab7", "001b44113ab7", "a short one, as long as a MAC"},
    {"00:1B-44:11-3A:B7", "00:1B-44:11-3A:B7", "mixed separators"},
    {"0:1b:44:11:3a:b7", "0:1b:44:11:3a:b7", "a digit short"},
    {"ab:cd:ef", "ab:cd:ef", "three pairs"},
    {"$12.99", "$12.99", "a price"},
    {"+12.50 EUR", "+12.50 EUR", "a gain"},
    {"+12345678 \xE2\x82\xAC", "+12345678 \xE2\x82\xAC", "a large one"},
    {"3:2", "3:2", "a score"},
    {"+1000", "+1000", "points"},
    {"+1234567", "+1234567", "seven digits are no phone number"},
    {"+1234567890123456", "+1234567890123456", "nor are sixteen"},
    {"+01234567", "+01234567", "no country begins with 0"},
    {"++12345678", "++12345678", "two signs"},
    {"1+12345678", "1+12345678", "a sum"},
    {"2025550123", "2025550123", "a number without its country"},
    {"52.5200, 13.4050", "52.5200, 13.4050", "a place"},
    {"-33.8688 151.2093", "-33.8688 151.2093", "another"},
    {"+48.8577+002.2950/", "+48.8577+002.2950/", "in ISO 6709"},
    {"-12345678", "-12345678", "a negative number"},
    {"100%", "100%", "a percentage"},
    {"50%41", "50%41", "a percentage before a number"},

    // ---- what stays: the words of programs ----
    {"a::b", "a::b", "a scope of C++"},
    {"dead::beef", "dead::beef", "one of hexadecimal digits"},
    {"fade::in", "fade::in", "one that begins so"},
    {"fe80::mutex", "fe80::mutex", "one that begins as an address does"},
    {"std::vector<std::pair<int, int>>::end()", "std::vector<std::pair<int, int>>::end()", "C++"},
    {"::1", "::1", "this machine, which tells of nobody"},
    {"1fff::1", "1fff::1", "before the global ones"},
    {"4000::1", "4000::1", "behind them"},
    {"fbff::1", "fbff::1", "before the local ones"},
    {"fec0::1", "fec0::1", "behind them"},
    {"ff02::1", "ff02::1", "a group of machines"},
    {"2001:db8::1::2", "2001:db8::1::2", "two gaps"},
    {"2001:db8:1:2:3:4:5", "2001:db8:1:2:3:4:5", "too short"},
    {"2001:db8:1:2:3:4:5:6:7", "2001:db8:1:2:3:4:5:6:7", "too long"},
    {"2001:db8::12345", "2001:db8::12345", "five digits"},
    {"operator+ a+b a[i] -> *p", "operator+ a+b a[i] -> *p", "operators"},
    {"what?! :-) <3 ^_^ ~", "what?! :-) <3 ^_^ ~", "more emoticons"},
    {R"((?:\d{1,3}\.){3}\d{1,3})", R"((?:\d{1,3}\.){3}\d{1,3})", "a regex of numbers"},
    {R"({"a":[1,2.5],"b":"c/d","e":null})", R"({"a":[1,2.5],"b":"c/d","e":null})", "JSON"},
    {"%zz %2 % %25", "%zz %2 % %25", "what is no percent-encoding"},
    {"[email] [ip] [mac] [phone] ~", "[email] [ip] [mac] [phone] ~", "our own marks"},
    {"from 192.168.0.1 today", "from 192.168.0.1 today", "an address of the network in a text"},
    {"call +12025550123 now", "call +12025550123 now", "a phone number in a text"},
    {"\xF0\x9F\x98\x80 \xC3\xA4 \xE7\x94\xA8", "\xF0\x9F\x98\x80 \xC3\xA4 \xE7\x94\xA8",
     "no ASCII"},
};

constexpr std::string_view key = "a key of 20 letters.";

std::string redacted(std::string_view text, Redaction redaction = Redaction::all) {
  std::string result;
  Pieces pieces(text, redaction);
  for (std::string_view piece; pieces.next(piece);) result += piece;
  return result;
}

fakes::Json lastOf(const fakes::World& world, std::string_view type) {
  fakes::Json last;
  for (const fakes::Json& event : world.server->received()) {
    if (event.at("type") == type) last = event;
  }
  return last;
}

/// Whether anything that was sent, stored or told holds the text, as it stands in JSON.
bool isAnywhere(const fakes::World& world, std::string_view text) {
  const std::string quoted = fakes::Json(std::string(text)).dump();
  const std::string inside = quoted.substr(1, quoted.size() - 2);
  std::string all = world.disk->file;
  for (const std::string& body : world.server->bodies) all += body;
  for (const std::string& message : world.messages) all += message;
  return all.find(inside) != std::string::npos;
}

using Faces = std::map<std::string, std::string>;

std::string onlyKeyBut(const fakes::Json& object, const std::string& other) {
  std::string found;
  for (const auto& [name, value] : object.items()) found = name == other ? found : name;
  return found;
}

/// What the server is told where the text is given as anything that can be said.
Faces everyFace(std::string_view text, PersonalData personalData) {
  fakes::World world;
  nucleus::Options options = world.options();
  options.personalData = personalData;
  nucleus::Client client(options);
  CHECK(client.track(text) == Outcome::ok);
  CHECK(client.page(text) == Outcome::ok);
  CHECK(client.setProps({{"a property", text}, {text, "a value"}}) == Outcome::ok);
  CHECK(client.trackError(text, text, text) == Outcome::ok);
  const std::string name = lastOf((client.flush(1'000), world), "event").at("name");
  CHECK(client.track("an event", {{"a property", text}, {text, "a value"}}) == Outcome::ok);
  client.startSession();
  REQUIRE(client.flush(1'000));

  const fakes::Json view = lastOf(world, "nucleus:view"), error = lastOf(world, "error"),
                    event = lastOf(world, "event").at("payload"),
                    user = lastOf(world, "props").at("payload"),
                    init = lastOf(world, "init").at("payload");
  return {{"event name", name},
          {"page name", view.at("name")},
          {"property value", event.at("a property")},
          {"property name", onlyKeyBut(event, "a property")},
          {"user property value", user.at("a property")},
          {"user property name", onlyKeyBut(user, "a property")},
          {"user property value in init", init.at("a property")},
          {"user property name in init", onlyKeyBut(init, "a property")},
          {"error name", error.at("name")},
          {"error message", error.at("payload").at("message")},
          {"error stack", error.at("payload").at("stack")}};
}

void checkFaces(std::string_view given, std::string_view expected, PersonalData personalData) {
  for (const auto& [face, text] : everyFace(given, personalData)) {
    CAPTURE(face);
    CHECK(text == expected);
  }
}

/// A client with a user and a property of hers.
struct Known {
  fakes::World world;
  std::unique_ptr<nucleus::Client> client;

  explicit Known(std::string_view anonymizeKey = {},
                 PersonalData personalData = PersonalData::redact) {
    nucleus::Options options = world.options();
    options.anonymizeKey = std::string(anonymizeKey);
    options.personalData = personalData;
    client = std::make_unique<nucleus::Client>(options);
    REQUIRE(client->identify("user-1", {{"plan", "pro"}}) == Outcome::ok);
  }
  /// What is sent of the user from now on.
  fakes::Json next() {
    REQUIRE(client->startSession() == Outcome::ok);
    REQUIRE(client->flush(1'000));
    world.pass(*client, 2'000);
    return lastOf(world, "init");
  }
};

void checkCleared(Known& known, std::string_view id) {
  const fakes::Json init = known.next();
  CHECK_FALSE(init.contains("userId"));
  CHECK_FALSE(init.contains("payload"));
  CHECK(known.world.told("personal-id") == 1);
  CHECK_FALSE(isAnywhere(known.world, id));
}

}  // namespace

TEST_CASE("what is personal is replaced wherever it is said, and what is useful stays") {
  for (const Row& row : rows) {
    CAPTURE(row.given, row.reason);
    checkFaces(row.given, row.expected, PersonalData::redact);
  }
}

TEST_CASE("what is left of a text of the table is left again") {
  for (const Row& row : rows) {
    CAPTURE(row.given, row.expected);
    CHECK(redacted(row.expected) == row.expected);
  }
}

TEST_CASE("no text stands in the table twice") {
  std::set<std::string_view> given;
  for (const Row& row : rows) {
    CAPTURE(row.given);
    CHECK(given.insert(row.given).second);
  }
}

TEST_CASE("PersonalData::allow leaves every text as it is given") {
  for (const Row& row : rows) {
    CAPTURE(row.given);
    checkFaces(row.given, row.given, PersonalData::allow);
  }
}

TEST_CASE("redaction also works where an error's stack has to be cut") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.maxEventBytes = 1'024;
  nucleus::Client client(options);
  std::string stack;
  for (int i = 0; i < 200; ++i) stack += "f (/home/ann/a.js) ann@example.org\n";
  CHECK(client.trackError("name", "message", stack) == Outcome::ok);
  REQUIRE(client.flush(1'000));
  const std::string sent = lastOf(world, "error").at("payload").at("stack");
  CHECK(sent.size() > 400);
  CHECK(redacted(stack).substr(0, sent.size()) == sent);
}

TEST_CASE("what an exception says is redacted") {
  fakes::World world;
  nucleus::Client client(world.options());
  CHECK(client.trackError(std::runtime_error("no /home/ann/x of ann@example.org")) == Outcome::ok);
  REQUIRE(client.flush(1'000));
  CHECK(lastOf(world, "error").at("payload").at("message") == "no ~/x of [email]");
}

TEST_CASE("no diagnostic tells what is personal") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.maxEventBytes = 1'024;
  nucleus::Client client(options);
  const std::string tooLong = "annabel@example.org " + std::string(300, 'x');
  const std::string tooMuch(2'000, 'x');
  const double infinite = std::numeric_limits<double>::infinity();
  CHECK(client.track(tooLong) == Outcome::invalidName);
  CHECK(client.track("bobby@example.org", {{"a", tooMuch}}) == Outcome::tooLarge);
  CHECK(client.setProps({{"/home/cleopatra", infinite}}) == Outcome::ok);
  world.pass(client, 2'000);
  CHECK(world.told("invalid-name") == 1);
  CHECK(world.told("too-large") == 1);
  CHECK(world.told("invalid-value") == 1);
  for (const char* name : {"annabel", "bobby", "cleopatra", "example"})
    CHECK_FALSE(isAnywhere(world, name));
}

// ---- what the name says of the value ----

TEST_CASE("a value of four numbers is a version where its name says so") {
  const auto valueOf = [](std::string_view name, std::string_view value) -> std::string {
    fakes::World world;
    nucleus::Client client(world.options());
    CHECK(client.track("event", {{name, value}}) == Outcome::ok);
    CHECK(client.setProps({{"x", 1}, {name, value}}) == Outcome::ok);
    REQUIRE(client.flush(1'000));
    const std::string ofEvent = lastOf(world, "event").at("payload").at(std::string(name));
    CHECK(lastOf(world, "props").at("payload").at(std::string(name)) == ofEvent);
    return ofEvent;
  };
  for (const char* name :
       {"driverVersion", "gpu_version", "VERSION", "libVersion", "osVer", "ver", "os_ver", "VER",
        "build", "osBuild", "gpu_driver", "gpuDriver", "driver", "Driver", "game-ver"}) {
    CAPTURE(name);
    CHECK(valueOf(name, "31.0.15.3623") == "31.0.15.3623");
    CHECK(valueOf(name, "5.15.0.1") == "5.15.0.1");
    CHECK(valueOf(name, "2001:db8::1") == "[ip]");
    CHECK(valueOf(name, "00:1b:44:11:3a:b7") == "[mac]");
    CHECK(valueOf(name, "+12025550123") == "[phone]");
    CHECK(valueOf(name, "ann@example.org") == "[email]");
    CHECK(valueOf(name, "/home/ann") == "~");
  }
  for (const char* name : {"server", "address", "observer", "versions", "verb", "driver_ip",
                           "buildServer", "version2", "ip", "forever", "OVer", "v", "er"}) {
    CAPTURE(name);
    CHECK(valueOf(name, "5.15.0.1") == "[ip]");
  }
}

TEST_CASE("the versions of the system and of the program may look like an IP address") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.osVersion = "10.15.7.1";
  options.version = "1.2.3.4";
  options.locale = "ann@example.org";
  options.platform = "/home/ann";
  nucleus::Client client(options);
  REQUIRE(client.flush(1'000));
  fakes::Json init = lastOf(world, "init");
  CHECK(init.at("osVersion") == "10.15.7.1");
  CHECK(init.at("version") == "1.2.3.4");
  CHECK(init.at("locale") == "[email]");
  CHECK(init.at("platform") == "~");
  CHECK(client.setProps({{"osVersion", "4.3.2.1"}, {"version", "2.0.0.1"}}) == Outcome::ok);
  CHECK(client.setProps({{"locale", "x b@c.co"}, {"platform", "C:\\Users\\ann"}}) == Outcome::ok);
  client.startSession();
  REQUIRE(client.flush(1'000));
  init = lastOf(world, "init");
  CHECK(init.at("osVersion") == "4.3.2.1");
  CHECK(init.at("version") == "2.0.0.1");
  CHECK(init.at("locale") == "x [email]");
  CHECK(init.at("platform") == "~");
}

// ---- names and sizes ----

TEST_CASE("of property names that are the same once they are redacted the last one counts") {
  fakes::World world;
  nucleus::Client client(world.options());
  CHECK(client.track("event", {{"ann@example.org", 1}, {"x", 2}, {"bob@example.org", 3}}) ==
        Outcome::ok);
  CHECK(client.setProps({{"/home/ann", 1}, {"C:\\Users\\ann", 2}, {"y", 3}}) == Outcome::ok);
  CHECK(client.setProps({{"/Users/bob", 4}}) == Outcome::ok);
  REQUIRE(client.flush(1'000));
  const std::string& body = world.server->bodies.back();
  CAPTURE(body);
  CHECK(body.find(R"("payload":{"x":2,"[email]":3})") != std::string::npos);
  CHECK(body.find(R"("payload":{"~":2,"y":3})") != std::string::npos);
  CHECK(body.find(R"("payload":{"y":3,"~":4})") != std::string::npos);
}

TEST_CASE("so it is where one of the names is given as the mark itself") {
  fakes::World world;
  nucleus::Client client(world.options());
  CHECK(client.track("event", {{"[email]", 1}, {"ann@example.org", 2}}) == Outcome::ok);
  CHECK(client.page("page", {{"/home/ann", 3}, {"~", 4}}) == Outcome::ok);
  CHECK(client.setProps({{"~", 5}, {"/home/ann", 6}}) == Outcome::ok);
  CHECK(client.setProps({{"~", 7}}) == Outcome::ok);
  REQUIRE(client.flush(1'000));
  const std::string& body = world.server->bodies.back();
  CAPTURE(body);
  CHECK(body.find(R"("payload":{"[email]":2})") != std::string::npos);
  CHECK(body.find(R"("payload":{"~":4})") != std::string::npos);
  CHECK(body.find(R"("payload":{"~":6})") != std::string::npos);
  CHECK(body.find(R"("payload":{"~":7})") != std::string::npos);
}

TEST_CASE("under PersonalData::allow names that would be the same if redacted are two") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.personalData = PersonalData::allow;
  nucleus::Client client(options);
  CHECK(client.track("event", {{"ann@example.org", 1}, {"bob@example.org", 2}}) == Outcome::ok);
  REQUIRE(client.flush(1'000));
  CHECK(lastOf(world, "event").at("payload") ==
        fakes::Json{{"ann@example.org", 1}, {"bob@example.org", 2}});
}

TEST_CASE("the size of an event is that of what is left of it") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.maxEventBytes = 1'024;
  nucleus::Client client(options);
  const std::string address = std::string(2'000, 'a') + "@example.org";
  CHECK(client.track("event", {{"mail", address}}) == Outcome::ok);
  CHECK(client.setProps({{"mail", address}}) == Outcome::ok);
  CHECK(client.trackError("error", address) == Outcome::ok);
  REQUIRE(client.flush(1'000));
  CHECK(lastOf(world, "event").at("payload").at("mail") == "[email]");
  CHECK(lastOf(world, "props").at("payload").at("mail") == "[email]");
  CHECK(lastOf(world, "error").at("payload").at("message") == "[email]");
  CHECK(client.track("event", {{"text", std::string(2'000, 'a')}}) == Outcome::tooLarge);
  std::string addresses;  // which grow by a byte each
  while (addresses.size() < 800) addresses += "a@b.co,";
  CHECK(client.track("event", {{"mail", addresses}}) == Outcome::tooLarge);
}

TEST_CASE("the length of a name is that of what is left of it") {
  fakes::World world;
  nucleus::Client client(world.options());
  CHECK(client.track(std::string(300, 'a') + "@example.org") == Outcome::ok);
  CHECK(client.track(std::string(300, 'a')) == Outcome::invalidName);
  std::string addresses;
  while (addresses.size() < 250) addresses += "a@b.co,";
  REQUIRE(addresses.size() <= 256);
  CHECK(client.track(addresses) == Outcome::invalidName);
  REQUIRE(client.flush(1'000));
  CHECK(lastOf(world, "event").at("name") == "[email]");
}

// ---- ids ----

TEST_CASE("a user id is refused where redaction would change it, and nobody is known then") {
  for (const Row& row : rows) {
    if (row.given == row.expected) continue;
    CAPTURE(row.given, row.reason);
    Known known;
    CHECK(known.client->setUserId(row.given) == Outcome::personalData);
    checkCleared(known, row.given);
  }
}

TEST_CASE("identify() refuses the same ids, and takes no properties with them") {
  for (const char* id : {"ann@example.org", "prefix:a@b.co", "/home/ann", "192.168.0.1",
                         "00-1b-44-11-3a-b7", "+12025550123"}) {
    CAPTURE(id);
    Known known;
    CHECK(known.client->identify(id, {{"tier", "gold"}}) == Outcome::personalData);
    checkCleared(known, id);
    CHECK_FALSE(isAnywhere(known.world, "tier"));
  }
}

TEST_CASE("any other user id is taken as it is") {
  for (const Row& row : rows) {
    if (row.given != row.expected) continue;
    CAPTURE(row.given, row.reason);
    for (const std::string_view anonymizeKey : {std::string_view(), key}) {
      Known known(anonymizeKey);
      CHECK(known.client->setUserId(row.given) == Outcome::ok);
      CHECK(known.next().at("userId") == row.given);
      CHECK(known.world.told("personal-id") == 0);
    }
  }
}

TEST_CASE("under PersonalData::allow a personal user id is taken as it is, without a key") {
  Known known({}, PersonalData::allow);
  CHECK(known.client->setUserId("ann@example.org") == Outcome::ok);
  CHECK(known.next().at("userId") == "ann@example.org");
}

TEST_CASE("with anonymizeKey a personal user id is hashed, on every device to the same") {
  std::map<std::string, std::string_view> people;
  for (const Row& row : rows) {
    if (row.given == row.expected) continue;
    CAPTURE(row.given);
    Known one(key), two(key);
    CHECK(one.client->setUserId(row.given) == Outcome::ok);
    CHECK(two.client->identify(row.given) == Outcome::ok);
    const std::string hash = one.next().at("userId");
    CHECK(hash == nucleus::anonymize(row.given, key));
    CHECK(two.next().at("userId") == hash);
    CHECK(hash.size() == 22);
    CHECK(nucleus::detail::isIdentifier(hash));
    CHECK_FALSE(isAnywhere(one.world, row.given));
    CHECK(one.world.told("personal-id") == 0);
  }
}

TEST_CASE("two people never share what stands for them") {
  const std::pair<const char*, const char*> pairs[] = {{"prefix:a@b.co", "prefix:c@d.co"},
                                                       {"a@b.co", "c@d.co"},
                                                       {"/home/ann", "/home/bob"},
                                                       {"C:\\Users\\ann", "C:\\Users\\bob"},
                                                       {"192.168.0.1", "192.168.0.2"},
                                                       {"2001:db8::1", "2001:db8::2"},
                                                       {"00:1b:44:11:3a:b7", "00:1b:44:11:3a:b8"},
                                                       {"+12025550123", "+12025550124"}};
  for (const auto& [first, second] : pairs) {
    CAPTURE(first, second);
    Known one(key), two(key);
    CHECK(one.client->setUserId(first) == Outcome::ok);
    CHECK(two.client->setUserId(second) == Outcome::ok);
    CHECK(one.next().at("userId") != two.next().at("userId"));
  }
}

TEST_CASE("a person's hash differs from that under another key") {
  Known one(key), two("another key, as long");
  CHECK(one.client->setUserId("ann@example.org") == Outcome::ok);
  CHECK(two.client->setUserId("ann@example.org") == Outcome::ok);
  CHECK(one.next().at("userId") != two.next().at("userId"));
}

TEST_CASE("a person's user id may be written in any case, with blanks around") {
  Known known(key);
  for (const char* id : {"ann@example.org", "  Ann@Example.ORG\n", "ANN@EXAMPLE.ORG"}) {
    CHECK(known.client->setUserId(id) == Outcome::ok);
    CHECK(known.next().at("userId") == nucleus::anonymize("ann@example.org", key));
  }
}

TEST_CASE("a key of less than 16 bytes is told of and not used") {
  for (const std::size_t bytes : {1u, 15u, 16u}) {
    CAPTURE(bytes);
    const bool enough = bytes == 16;
    Known known(std::string(bytes, 'k'));
    const Outcome outcome = known.client->setUserId("ann@example.org");
    CHECK(outcome == (enough ? Outcome::ok : Outcome::personalData));
    CHECK(known.next().contains("userId") == enough);
    CHECK(known.world.told("short-key") == (enough ? 0 : 1));
    CHECK_FALSE(isAnywhere(known.world, std::string(15, 'k')));
  }
}

TEST_CASE("a short key hashes nobody, and lets nobody through under PersonalData::allow either") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.personalData = PersonalData::allow;
  options.anonymizeKey = "short";
  nucleus::Client client(options);
  CHECK(client.setUserId("bob@example.com") == Outcome::personalData);
  CHECK(nucleus::dataInventory(options).policy().find("is not used") != std::string::npos);
}

TEST_CASE("locale and platform are no versions: an IP address does not stay in them") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.locale = "203.0.113.9";
  options.platform = "203.0.113.8";
  nucleus::Client client(options);
  client.setProps({{"locale", "203.0.113.7"}});
  client.trackError("E", "message");
  world.pass(client, 5'000);
  REQUIRE(world.server->bodies.size() == 1);
  CHECK(world.server->bodies[0].find("203.0.113") == std::string::npos);
}

TEST_CASE("a refused user id leaves the file too before the call returns, where it is so wanted") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.cacheDelayMs = 0;
  nucleus::Client client(options);
  client.setUserId("carl");
  CHECK(client.setUserId("bob@example.com") == Outcome::personalData);
  const std::size_t last = world.disk->file.rfind("\ns ");
  REQUIRE(last != std::string::npos);
  CHECK(world.disk->file.substr(last).find("carl") == std::string::npos);
}

TEST_CASE("a personal deviceId or anonId of the options is told of and not used") {
  for (const char* id : {"ann@example.org", "/home/ann", "192.168.0.1", "00-1b-44-11-3a-b7"}) {
    CAPTURE(id);
    fakes::World world;
    nucleus::Options options = world.options();
    options.deviceId = options.anonId = id;
    nucleus::Client client(options);
    REQUIRE(client.flush(1'000));
    world.pass(client, 2'000);
    const std::string deviceId = lastOf(world, "init").at("deviceId");
    const std::string anonId = lastOf(world, "init").at("anonId");
    CHECK(deviceId.size() == 15);
    CHECK(anonId.size() == 12);
    CHECK(world.told("personal-id") == 2);
    CHECK_FALSE(isAnywhere(world, id));
  }
}

TEST_CASE("an opaque deviceId is used, and a personal one of allow too") {
  for (const bool allowed : {false, true}) {
    fakes::World world;
    nucleus::Options options = world.options();
    if (allowed) options.personalData = PersonalData::allow;
    options.deviceId = allowed ? "ann@example.org" : "device-1";
    nucleus::Client client(options);
    REQUIRE(client.flush(1'000));
    CHECK(lastOf(world, "init").at("deviceId") == options.deviceId);
    CHECK(world.told("personal-id") == 0);
  }
}

TEST_CASE("setProps() takes no personal deviceId") {
  for (const char* id : {"ann@example.org", "/home/ann", "192.168.0.1", "00-1b-44-11-3a-b7"}) {
    CAPTURE(id);
    Known known;
    CHECK(known.client->setProps({{"deviceId", "device-1"}}) == Outcome::ok);
    CHECK(known.next().at("deviceId") == "device-1");
    CHECK(known.client->setProps({{"deviceId", id}}) == Outcome::ok);
    CHECK(known.next().at("deviceId") == "device-1");
    CHECK(known.world.told("personal-id") == 1);
    CHECK_FALSE(isAnywhere(known.world, id));
  }
}

// ---- properties of redaction ----

namespace {

/// Texts of pieces that redaction looks at, from a seed.
class Texts {
 public:
  explicit Texts(std::uint64_t seed) : random_(seed) {}

  std::string next(std::size_t mostPieces = 16) {
    static constexpr std::string_view pieces[] = {"@",
                                                  ".",
                                                  ":",
                                                  "/",
                                                  "\\",
                                                  "%",
                                                  "+",
                                                  "-",
                                                  " ",
                                                  "\"",
                                                  "'",
                                                  "(",
                                                  ")",
                                                  "[",
                                                  "]",
                                                  "<",
                                                  ">",
                                                  "{",
                                                  "}",
                                                  "~",
                                                  "_",
                                                  "$",
                                                  "#",
                                                  "?",
                                                  "=",
                                                  "&",
                                                  ",",
                                                  ";",
                                                  "|",
                                                  "*",
                                                  "\n",
                                                  "0",
                                                  "1",
                                                  "25",
                                                  "40",
                                                  "255",
                                                  "a",
                                                  "b",
                                                  "co",
                                                  "f",
                                                  "F",
                                                  "ffff",
                                                  "2001",
                                                  "fe80",
                                                  "::",
                                                  "home",
                                                  "Users",
                                                  "/home/",
                                                  "\\Users\\",
                                                  "C:",
                                                  "C:\\Users\\",
                                                  "/Users/",
                                                  "mnt",
                                                  "wsl$",
                                                  "\\\\",
                                                  "//",
                                                  "file://",
                                                  "https://",
                                                  "tel:",
                                                  "a@b.co",
                                                  "@b.co",
                                                  "\"@b.co",
                                                  "xn--",
                                                  "png",
                                                  "1.2.3.4",
                                                  "00:1b:",
                                                  "+1202555",
                                                  "[email]",
                                                  "[ip]",
                                                  "[mac]",
                                                  "[phone]",
                                                  "%2F",
                                                  "%5C",
                                                  "%20",
                                                  "%22",
                                                  "%40",
                                                  "%2540",
                                                  "%3A",
                                                  "%C3",
                                                  "%BC",
                                                  "\xC3\xBC",
                                                  "\xE7\x94\xA8",
                                                  "\xF0\x9F\x98\x80"};
    std::string text;
    for (std::uint64_t left = 1 + random_() % mostPieces; left > 0; --left) {
      text += pieces[random_() % (sizeof pieces / sizeof pieces[0])];
    }
    return text;
  }

 private:
  std::mt19937_64 random_;
};

constexpr int manyTexts = static_cast<int>(60'000 / fakes::slowdown);

bool isUtf8(std::string_view text) {
  while (!text.empty()) {
    const auto next = nucleus::detail::utf8At(text.data(), text.data() + text.size());
    if (!next.valid) return false;
    text.remove_prefix(next.bytes);
  }
  return true;
}

bool isWithin(std::string_view piece, std::string_view text) {
  const std::less_equal<const char*> before;
  return before(text.data(), piece.data()) &&
         before(piece.data() + piece.size(), text.data() + text.size());
}

}  // namespace

TEST_CASE("redacting what is redacted changes nothing") {
  Texts texts(1);
  for (int i = 0; i < manyTexts; ++i) {
    const std::string text = texts.next();
    CAPTURE(i, text);
    for (const Redaction redaction : {Redaction::all, Redaction::allButIpv4}) {
      const std::string once = redacted(text, redaction);
      if (redacted(once, redaction) != once) FAIL(once << " becomes " << redacted(once, redaction));
    }
  }
}

TEST_CASE("redaction leaves stretches of the text in their order, and marks between them") {
  const std::set<std::string_view> marks = {"[email]", "[ip]", "[mac]", "[phone]", "~"};
  Texts texts(2);
  int replaced = 0;
  for (int i = 0; i < manyTexts; ++i) {
    const std::string text = texts.next();
    CAPTURE(i, text);
    Pieces pieces(text, Redaction::all);
    std::string_view rest = text;
    std::size_t bytes = 0, most = text.size();
    for (std::string_view piece; pieces.next(piece); bytes += piece.size()) {
      if (isWithin(piece, text)) {
        if (!isWithin(piece, rest)) FAIL("out of order: " << piece);
        rest.remove_prefix(static_cast<std::size_t>(piece.data() + piece.size() - rest.data()));
      } else {
        if (marks.count(piece) == 0) FAIL("not a mark: " << piece);
        most += std::string_view("[email]").size();
        ++replaced;
      }
    }
    if (bytes > most) FAIL("it grew by more than its marks");
  }
  CHECK(replaced > manyTexts / 10);
}

TEST_CASE("redaction leaves valid UTF-8 valid") {
  Texts texts(3);
  for (int i = 0; i < manyTexts; ++i) {
    const std::string text = texts.next();
    if (!isUtf8(redacted(text))) FAIL("of text " << i << ": " << text);
  }
}

TEST_CASE("a text without @, digits, colons, percent signs and separators is not changed") {
  std::mt19937_64 random(4);
  constexpr std::string_view alphabet[] = {
      "a", "f", "F", "Z", "home", "Users", " ", "\n",  "\"", "'",        "[email]",      "~",   "(",
      ")", "[", "]", "<", "+",    "_",     "!", "tel", ",",  "\xC3\xBC", "\xE7\x94\xA8", "\x01"};
  for (int i = 0; i < manyTexts; ++i) {
    std::string text;
    for (std::uint64_t left = random() % 40; left > 0; --left) {
      text += alphabet[random() % (sizeof alphabet / sizeof alphabet[0])];
    }
    if (redacted(text) != text) FAIL(text << " becomes " << redacted(text));
    if (nucleus::detail::isPersonal(text)) FAIL(text << " is said to be personal");
  }
}

TEST_CASE("without redaction no text is changed") {
  Texts texts(5);
  for (int i = 0; i < manyTexts; ++i) {
    const std::string text = texts.next();
    if (redacted(text, Redaction::none) != text) FAIL(text << " is changed");
  }
}

TEST_CASE("a text is personal exactly where redaction changes it") {
  Texts texts(6);
  int personal = 0;
  for (int i = 0; i < manyTexts; ++i) {
    const std::string text = texts.next();
    const bool changes = redacted(text) != text;
    if (nucleus::detail::isPersonal(text) != changes) FAIL("of text " << i << ": " << text);
    personal += changes ? 1 : 0;
  }
  CHECK(personal > manyTexts / 10);
  CHECK(personal < manyTexts * 9 / 10);
}

TEST_CASE("bytes that are no UTF-8 are redacted without reading past the end") {
  std::mt19937_64 random(7);
  Texts texts(7);
  for (int i = 0; i < manyTexts; ++i) {
    std::string text = texts.next();
    text[random() % text.size()] = static_cast<char>(random());
    text.resize(random() % (text.size() + 1));
    const std::unique_ptr<char[]> exact(new char[text.size()]);  // for AddressSanitizer
    text.copy(exact.get(), text.size());
    const std::string once = redacted(std::string_view(exact.get(), text.size()));
    if (redacted(once) != once) FAIL("of text " << i << ": " << text);
  }
}

TEST_CASE("what the server receives is what redaction leaves, whatever the text") {
  Texts texts(8);
  fakes::World world;
  nucleus::Client client(world.options());
  for (int i = 0; i < 1'000 / static_cast<int>(fakes::slowdown); ++i) {
    const std::string text = texts.next();
    CAPTURE(i, text);
    REQUIRE(client.track("event", {{"a property", text}, {text, 1}}) == Outcome::ok);
    REQUIRE(client.flush(1'000));
    const fakes::Json payload = lastOf(world, "event").at("payload");
    REQUIRE(payload.at("a property") == redacted(text));
    REQUIRE(payload.at(redacted(text)) == 1);
    world.server->bodies.clear();
  }
}

namespace {}  // namespace
