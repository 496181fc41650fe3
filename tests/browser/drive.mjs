// Plays the page in headless Chromium: drive.mjs FOLDER COLLECTOR_PORT
// The folder has page/ (what is served) and node_modules/; browser.png goes there. What is served
// comes from one origin, the collector answers on another, so that CORS is part of it.
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import {createRequire} from "node:module";

const [folder, collectorPort] = process.argv.slice(2);
const {chromium} = createRequire(path.join(folder, "here"))("playwright-core");
const profile = path.join(folder, "profile");
const picture = path.join(folder, "browser.png");

// ---- checks ----

let passed = 0, failed = 0;
function check(sentence, holds, shown) {
  holds ? ++passed : ++failed;
  console.log(holds ? `ok  ${sentence}` : `FAILED  ${sentence}: ${JSON.stringify(shown)}`);
}

/// Looks again and again until it is so; false after the limit.
async function eventually(condition, limitMs = 15_000) {
  for (const end = Date.now() + limitMs; Date.now() < end;) {
    if (await condition()) return true;
    await new Promise(next => setTimeout(next, 20));  // between two looks
  }
  return false;
}

// ---- the servers ----

async function collector(what, body) {
  const url = `http://127.0.0.1:${collectorPort}/control/${what}`;
  const answer = await fetch(url, body && {method: "POST", body: JSON.stringify(body)});
  if (!answer.ok) throw new Error(await answer.text());
  return answer.headers.get("Content-Type") === "application/json" ? answer.json() : null;
}

function listen(handler) {
  return new Promise(done => {
    const server = http.createServer(handler);
    server.listen(0, "127.0.0.1", () => done(server.address().port));
  });
}

/// The collector, as the page may see it: Nucleus allows every origin.
let asked = 0, preflightMs = 0, floods = false, givenUp = 0;
const api = await listen(async (request, response) => {
  ++asked;
  response.setHeader("Access-Control-Allow-Origin", "*");
  response.setHeader("Access-Control-Allow-Headers", "Content-Type");
  response.setHeader("Access-Control-Expose-Headers", "Retry-After");
  response.setHeader("Access-Control-Max-Age", "0");  // so each request has its own question
  if (request.method === "OPTIONS") {
    return setTimeout(() => response.writeHead(204).end(), preflightMs);
  }
  const parts = [];
  for await (const part of request) parts.push(part);
  if (floods) {
    floods = false;
    return flood(response);
  }
  const to = {port: collectorPort, method: "POST", path: request.url,
              headers: {"Content-Type": request.headers["content-type"]}};
  http.request(to, answer => {
    const after = answer.headers["retry-after"];
    response.writeHead(answer.statusCode, after ? {"Retry-After": after} : {});
    answer.pipe(response);
  }).on("error", () => request.socket.destroy()).end(Buffer.concat(parts));
});

/// An answer without an end, until whom it is for has had enough.
function flood(response) {
  response.on("close", () => ++givenUp);
  const pour = () => {
    while (!response.destroyed && response.write(Buffer.alloc(1 << 16, " ")));
  };
  response.on("drain", pour);
  pour();
}

/// A service worker of the test's, so that a reload needs no network.
const worker = `
  addEventListener("install", event => event.waitUntil(caches.open("page").then(cache =>
    cache.addAll(["/", "/game.js", "/game.wasm"]))));
  addEventListener("fetch", event => {
    if (event.request.url.startsWith(location.origin))
      event.respondWith(caches.match(event.request).then(found => found || fetch(event.request)));
  });`;
const types = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm"};
const pages = await listen((request, response) => {
  const name = request.url === "/" ? "/index.html" : request.url;
  const file = path.join(folder, "page", path.basename(name));
  const there = name === "/worker.js" || fs.existsSync(file);
  const type = types[path.extname(name)] ?? "text/plain";
  response.writeHead(there ? 200 : 404, {"Content-Type": type});
  if (name === "/worker.js" || !there) return response.end(there ? worker : "");
  const content = fs.readFileSync(file);
  const endpoint = "https://app.nucleus.sh";
  response.end(name !== "/index.html" ? content
                  : content.toString().replace(endpoint, `http://127.0.0.1:${api}`));
});
const home = `http://127.0.0.1:${pages}/`;

// ---- the browser ----

const accepted = new Set();  // the id of every event that a page ever said it holds
const problems = [];         // what no page may say

/// Runs in the page: what it holds is looked at after each of its frames. Requests begin in frames,
/// and answers come between them, so nothing is accepted and gone without having been seen.
function watch() {
  let last = "";
  window.look = () => {
    Module._showData();
    const text = document.getElementById("data").textContent;
    if (text !== last) for (const event of JSON.parse(text).events ?? []) sawEvent(event.id);
    last = text;
  };
  const frame = () => {
    if (document.getElementById("stats").textContent !== "") look();
    requestAnimationFrame(frame);
  };
  addEventListener("load", frame);
}

let context;
async function startBrowser() {
  context = await chromium.launchPersistentContext(profile, {
    executablePath: "/usr/bin/chromium", viewport: {width: 640, height: 520},
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
           "--disable-background-networking", "--disable-component-update", "--disable-sync"]});
  await context.exposeFunction("sawEvent", id => { accepted.add(id); });
  await context.addInitScript(watch);
}
async function open(prepare) {
  const page = await context.newPage();
  if (prepare) await page.addInitScript(prepare);
  page.on("pageerror", error => problems.push(String(error)));
  await page.goto(home);
  await ready(page);
  return page;
}
const ready = page => page.waitForFunction(
    () => /tracked/.test(document.getElementById("stats").textContent));
const isAsked = page => page.evaluate(() => document.getElementById("question").open);
const stored = page => page.evaluate(() => localStorage.getItem("nucleus/browser-example") ?? "");

/// Until all that waits, and that is some events, is in the storage.
const allStored = (page, least) => page.waitForFunction(least => {
  const held = JSON.parse(document.getElementById("data").textContent).events;
  const text = localStorage.getItem("nucleus/browser-example");
  return held.length >= least && held.every(event => text.includes(`"id":${event.id},`));
}, least);

/// Starts a game and does `levels` of it, all in one turn of the page.
let games = 0, levels = 0;
async function play(page, count = 1) {
  ++games;
  levels += count;
  await page.evaluate(count => {
    document.getElementById("start").click();
    for (let i = 0; i < 5 * count; ++i) document.getElementById("dot").click();
    look();
  }, count);
}
async function stats(page) {
  const text = await page.textContent("#stats");
  const [tracked, wait, arrived] = text.match(/\d+/g).map(Number);
  return {tracked, wait, arrived, storage: text.match(/storage (\w+)/)[1]};
}
/// What waits goes out now, and not with the next request in 20 s.
const hurry = page => page.evaluate(() => dispatchEvent(new Event("online")));
/// All that was accepted so far is at the collector.
async function allArrived() {
  const {ids} = await collector("state");
  const there = new Set(ids);
  return [...accepted].every(id => there.has(id));
}
const arrived = async page => await eventually(async () =>
    (await stats(page)).wait === 0 && await allArrived());
const everything = page => page.evaluate(async () => ({
  local: {...localStorage}, session: {...sessionStorage}, cookies: document.cookie,
  databases: (await indexedDB.databases()).map(each => each.name), caches: await caches.keys()}));
const isNothing = held => JSON.stringify(held) ===
    '{"local":{},"session":{},"cookies":"","databases":[],"caches":[]}';

// ---- the story ----

async function refusal() {
  const page = await open();
  check("the first screen asks", await isAsked(page), null);
  check("before the answer nothing is stored", isNothing(await everything(page)),
        await everything(page));
  await page.click("#no");
  const refusedAt = await page.evaluate(() => performance.now());
  await play(page, 2);
  await hurry(page);
  // A first request would have come 1.5 s after the first event at the latest.
  await page.waitForFunction(since => performance.now() - since > 1_700, refusedAt);
  check("a no: no request, not even a question about one", asked === 0, asked);
  check("a no: the storage is empty", isNothing(await everything(page)),
        await everything(page));
  check("a no: no event was accepted", (await stats(page)).tracked === 0 && accepted.size === 0,
        await stats(page));
  games = levels = 0;
  await page.reload();
  await ready(page);
  check("a no is not even kept: the next visit asks again", await isAsked(page), null);
  return page;
}

async function consent(page) {
  await collector("behave", {answers: ["503 1"], then: "ok"});
  const seen = page.waitForFunction(  // no other pause is among what it holds
      () => /"retryForMs":\d/.test(document.getElementById("data").textContent))
      .then(() => true, () => false);
  await page.click("#yes");
  await play(page);
  await page.click("#dot", {force: true});
  check("a yes: with 503 and Retry-After first, all events arrive", await arrived(page),
        await stats(page));
  const {at} = await collector("state");
  check("the Retry-After is seen across origins, and obeyed",
        await seen && at[1] - at[0] >= 1000, at);
  check("what arrived is what the page tracked", (await stats(page)).tracked === accepted.size,
        [await stats(page), accepted.size]);
  await page.reload();
  await ready(page);
  check("the yes is kept", !(await isAsked(page)), null);
}

/// A page that may not store, and one that can store no more.
async function noRoom(page) {
  const asks = asked;
  const blocked = await open(() => Object.defineProperty(window, "localStorage", {
    get() { throw new DOMException("blocked", "SecurityError"); }
  }));
  check("a storage that the user blocks counts as a no", !(await isAsked(blocked)) &&
        (await stats(blocked)).tracked === 0 && asked === asks, await stats(blocked));
  await blocked.close();
  await page.evaluate(() => {
    for (let bytes = 1 << 20, i = 0; bytes > 0;) {
      try { localStorage.setItem(`full${++i}`, "x".repeat(bytes)); } catch (full) { bytes >>= 1; }
    }
  });
  await play(page);
  await page.waitForFunction(() => /failed/.test(document.getElementById("stats").textContent));
  await hurry(page);
  check("a full storage: the events arrive all the same", await arrived(page), await stats(page));
  await page.evaluate(() => {
    for (const key of Object.keys(localStorage)) if (/^f/.test(key)) localStorage.removeItem(key);
  });
  await play(page);
  await allStored(page, 2);
  check("a storage that has room again is used again", true, null);
  await hurry(page);
  await arrived(page);
}

async function endless(page) {
  floods = true;
  await play(page);
  await hurry(page);
  check("an answer without an end is given up", await eventually(() => givenUp === 1), givenUp);
  await hurry(page);
  check("and its events are sent again", await arrived(page), await stats(page));
}

async function offline(page) {
  await page.evaluate(async () => {
    await navigator.serviceWorker.register("worker.js");
    await navigator.serviceWorker.ready;
  });
  await page.reload();  // the worker serves from now on
  await ready(page);
  await arrived(page);
  await context.setOffline(true);
  const before = (await collector("state")).requests;
  await play(page, 3);
  await page.click("#dot", {force: true});
  await eventually(async () => (await stats(page)).wait >= 4);
  await page.screenshot({path: picture});
  // What is tracked in the very turn that leaves the page is kept as well.
  ++games;
  const loaded = page.waitForEvent("load");
  await page.evaluate(() => {
    document.getElementById("start").click();
    look();
    location.reload();
  });
  await loaded;
  await ready(page);
  check("offline: the page is there after a reload, without a network",
        await page.evaluate(() => !navigator.onLine), null);
  await play(page, 2);
  check("offline: nothing has left", (await collector("state")).requests === before &&
        !(await allArrived()), await collector("state"));
  await context.setOffline(false);
  check("back online: nothing is missing", await arrived(page), await stats(page));
}

async function restart(page) {
  await context.setOffline(true);
  await play(page, 2);
  await allStored(page, 3);
  await collector("behave", {then: "offline"});  // a page that closes may be online at its very end
  await context.close();
  check("the browser is closed offline, with events that wait", !(await allArrived()), null);
  await collector("behave", {then: "ok"});
  await startBrowser();
  const next = await open();
  check("the browser started anew delivers them", await arrived(next), await stats(next));
  return next;
}

async function crash(page) {
  await collector("behave", {then: "offline"});
  await play(page, 2);
  await allStored(page, 3);
  const devtools = await context.newCDPSession(page);
  const crashed = page.waitForEvent("crash");
  devtools.send("Page.crash").catch(() => {});
  await crashed;
  await page.close();
  await collector("behave", {then: "ok"});
  const next = await open();
  check("a tab that crashed loses nothing that was stored", await arrived(next), await stats(next));
  return next;
}

async function twoTabs(first) {
  const second = await open();
  check("the second tab knows the answer", !(await isAsked(second)), null);
  await play(second);
  await play(first);
  const ids = page => page.evaluate(() => {
    const held = JSON.parse(document.getElementById("data").textContent);
    return [held.deviceId, held.anonId];
  });
  check("both tabs are the same user on the same device",
        JSON.stringify(await ids(first)) === JSON.stringify(await ids(second)), await ids(second));
  check("one tab has the storage, the other one waits for it",
        (await stats(first)).storage === "ready" && (await stats(second)).storage === "locked",
        await stats(second));
  for (const each of [first, second]) await hurry(each);
  check("what both tracked arrives", await arrived(first) && await arrived(second),
        await stats(second));
  await play(second);  // has nowhere to keep it, so it is sent when the tab is closed
  preflightMs = 500;  // the events themselves leave when the page has long gone
  await second.close();
  check("a tab that is closed without the storage sends at once",
        await eventually(allArrived), await collector("state"));
  preflightMs = 0;
  const third = await open();
  await play(first);
  await first.close();
  check("the storage goes to the tab that is left", await eventually(async () =>
        (await stats(third)).storage === "ready"), await stats(third));
  check("and with it what the closed tab had not sent", await arrived(third), await stats(third));
  return third;
}

async function withdrawal(page) {
  const other = await open();
  await arrived(other);
  await collector("behave", {then: "slow 8000"});
  const begun = page.waitForEvent("request", each => each.method() === "POST");
  await play(page);
  await hurry(page);
  const request = await begun;
  const stopped = page.waitForEvent("requestfailed", {timeout: 7_000});
  await page.click("#privacy");
  await page.click("#no");
  check("a no later: the request under way is given up",
        await stopped.then(() => true, () => false), null);
  const isLine = async () =>
      /^nucleus-cache 1 browser-example refused [0-9a-f]{8}\n$/.test(await stored(page));
  check("a no later: what is left is one line that says no, without an id",
        await eventually(isLine), await stored(page));
  check("a no in one tab is one in all", (await other.evaluate(() => {
    Module._showData();
    return document.getElementById("data").textContent;
  })).includes('"consent":"refused"'), null);
  const asks = asked;
  await other.evaluate(() => document.getElementById("start").click());
  await page.evaluate(() => document.getElementById("start").click());
  await page.reload();
  await ready(page);
  check("a no later is kept, and nothing is sent any more",
        !(await isAsked(page)) && asked === asks, asked - asks);
}

async function story() {
  await startBrowser();
  let page = await refusal();
  await consent(page);
  await noRoom(page);
  await endless(page);
  await offline(page);
  page = await restart(page);
  page = await crash(page);
  page = await twoTabs(page);
  await withdrawal(page);

  const state = await collector("state");
  check("the collector has exactly the events that the pages accepted, none is missing",
        state.ids.length === accepted.size && await allArrived(),
        [state.ids.length, accepted.size]);
  check("none came twice", state.repeats === 0, state.repeats);
  check("every game and every level is there", state.names.GAME_STARTED === games &&
        state.names.LEVEL_DONE === levels, [state.names, games, levels]);
  // A page is not told how much memory the device has, and what is not known is left out.
  const violations = state.violations;
  check("no rule of the wire was broken", violations.length === 0, violations);
  check("no page reported an error", problems.length === 0, problems);
}

await story().catch(problem => check("the story comes to its end", false, String(problem)));
await context?.close();
console.log(failed === 0 ? `browser: all ${passed} checks passed` : `browser: ${failed} FAILED`);
process.exit(failed === 0 ? 0 : 1);
