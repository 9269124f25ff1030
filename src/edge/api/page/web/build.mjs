// Builds the page: one self-contained HTML file out of src/, by esbuild. Run by `make page`, never by cargo.
//
// What enters: index.html, src/, the packages beside it. What leaves: the file named on the command line. Promised: the
// same bytes from the same sources and lock file; no reference to anything outside the file; the script's sha256 in its
// CSP; exactly one place for data; the licences of what is bundled at the end; not larger than LARGEST. Absent: a watch
// mode, source maps, a development build.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

// Bytes. What the README says; raise it only knowingly: this file is part of the program and of every report.
const LARGEST = 200_000;
const DATA = '<script type="application/json" id="harbinger-data">null</script>';

const out = process.argv[2];
if (!out) {
  console.error("usage: node build.mjs PAGE.html");
  process.exit(2);
}

const bundled = await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ["src/main.tsx"],
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  outdir: "out",
  format: "iife",
  target: ["chrome109", "firefox115", "safari16.4"],
  charset: "utf8",
  legalComments: "none",
  logLevel: "warning",
});
const text = (suffix) => bundled.outputFiles.find((file) => file.path.endsWith(suffix)).text.trim();
const script = text(".js");
const style = text(".css");

// The licence of each package of which something is in the bundle, in alphabetical order.
const packages = new Set(
  Object.keys(bundled.metafile.inputs)
    .map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1])
    .filter(Boolean),
);
const licences = [...packages].sort().map((name) => {
  const folder = new URL(`node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(readFileSync(new URL("package.json", folder), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} brings no licence text`);
  return `${name} ${version} (${license})\n\n${readFileSync(new URL(file, folder), "utf8").trim()}\n`;
});
const notice = `\n<!--\nHarbinger, Apache-2.0. This file also holds parts of these packages, under their licences:\n\n${licences
  .join("\n----\n\n")
  .replaceAll("-->", "-- >")}-->\n`;

const page =
  readFileSync(new URL("index.html", import.meta.url), "utf8")
    .replace("@SCRIPT_SHA256@", () => createHash("sha256").update(script).digest("base64"))
    .replace("@STYLE@", () => style)
    .replace("@SCRIPT@", () => script)
    .trimEnd() + notice;

const problems = [
  script.includes("</script") && "the script would end early",
  script.includes("<!--") && "the script holds the beginning of a comment",
  style.includes("</style") && "the style would end early",
  /url\((?!["']?data:)/.test(style) && "the style refers to something outside",
  page.split(DATA).length !== 2 && "there is not exactly one place for data",
  Buffer.byteLength(page) > LARGEST && `${Buffer.byteLength(page)} bytes are more than ${LARGEST}`,
].filter(Boolean);
if (problems.length > 0) {
  console.error(problems.join("\n"));
  process.exit(1);
}
writeFileSync(out, page);
console.log(`${out}: ${Buffer.byteLength(page)} bytes`);
