// Another process of this program, on Windows, which has no fork().
#pragma once
#if defined(_WIN32)

#include "fakes.hpp"
#include "check.hpp"

#include <windows.h>

namespace fakes {

/// The process of a hidden test, which is told all that it must know by the environment.
class HiddenTest {
 public:
  explicit HiddenTest(const char* name) {
    wchar_t program[MAX_PATH] = {};
    REQUIRE(GetModuleFileNameW(nullptr, program, MAX_PATH) != 0);
    std::wstring command = nucleus::detail::widen("tests \"" + std::string(name) + "\" -o NUL");
    STARTUPINFOW startup = {};
    startup.cb = sizeof startup;
    PROCESS_INFORMATION made = {};
    const BOOL inherits = TRUE;
    REQUIRE(CreateProcessW(program, command.data(), nullptr, nullptr, inherits, 0, nullptr, nullptr,
                           &startup, &made) != 0);
    CloseHandle(made.hThread);
    process_ = made.hProcess;
  }
  ~HiddenTest() {
    kill();
    CloseHandle(process_);
  }
  HiddenTest(const HiddenTest&) = delete;
  HiddenTest& operator=(const HiddenTest&) = delete;

  void kill() {
    TerminateProcess(process_, 1);
    exitCode();
  }
  /// Waits for its end.
  int exitCode() {
    DWORD code = STILL_ACTIVE;
    WaitForSingleObject(process_, 60'000);
    GetExitCodeProcess(process_, &code);
    return static_cast<int>(code);
  }

 private:
  HANDLE process_ = nullptr;
};

}  // namespace fakes

#endif
