// Pictures of a report, or of a validator's page, for whoever changes its
// template or style: wide and at phone width, light and dark, and in print.
// Fails when anything sticks out of the window, or when the browser complains,
// as about something that the page's policy forbids. Not part of the tests,
// because it needs a browser:
//
//   EVALTASKS_SAMPLE_PAGE=/tmp/sample.html cargo test -p evaltasks sample_page -- --ignored
//   npm install --no-save --prefix tests/browser playwright-core
//   CHROMIUM=/usr/bin/chromium node tests/browser/screenshots.mjs /tmp/sample.html /tmp/pictures
//
//   EVALTASKS_SAMPLE_ADDRESS=127.0.0.1:9944 cargo test -p evaltasks serve_sample -- --ignored &
//   node tests/browser/screenshots.mjs http://127.0.0.1:9944/ /tmp/pictures overview
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [report, directory, title = "report"] = process.argv.slice(2);
if (!report || !directory) {
  console.error("usage: node screenshots.mjs REPORT.html|ADDRESS DIRECTORY [TITLE]");
  process.exit(2);
}
const address = report.startsWith("http:") ? report : pathToFileURL(resolve(report)).href;

const views = [1280, 768, 360].flatMap((width) => [
  { name: `${width}-light`, width, colorScheme: "light", media: "screen" },
  { name: `${width}-dark`, width, colorScheme: "dark", media: "screen" },
]);
views.push({ name: "print", width: 720, colorScheme: "dark", media: "print" });

// Elements beyond the window, except those that are cut or scroll on purpose.
function overflowing() {
  const width = document.documentElement.clientWidth;
  const allowed = ".scroll *, svg *, .unseen, thead, thead *, :is(.bars, .series) .who *";
  return [...document.querySelectorAll("body *")]
    .filter((element) => !element.matches(allowed))
    .filter((element) => {
      const box = element.getBoundingClientRect();
      return box.left < -1 || box.right > width + 1;
    })
    .map((element) => `${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`)
    .concat(document.documentElement.scrollWidth > width ? ["the page scrolls sideways"] : []);
}

mkdirSync(directory, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // Chromium's sandbox does not run as root, as in a container.
  args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
});
for (const { name, width, colorScheme, media } of views) {
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
  await page.emulateMedia({ media, colorScheme });
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("requestfailed", (request) => complaints.push(`${request.url()} was not loaded`));
  await page.goto(address);
  await page.locator("details").evaluateAll((all) => all.slice(0, 1).forEach((one) => (one.open = true)));
  const outside = await page.evaluate(overflowing);
  const wrong = outside.concat(complaints);
  wrong.forEach((what) => console.error(`${name}: ${what}`));
  if (wrong.length > 0) process.exitCode = 1;
  await page.screenshot({ path: resolve(directory, `${title}-${name}.png`), fullPage: true });
  await page.close();
}
await browser.close();
