// Unpacks the Chromium of the npm package @sparticuz/chromium, once, and prints its path. Its libraries lie beside it.
import { createReadStream, existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import { createWriteStream } from "node:fs";
import { extract } from "tar-fs";

const packageFolder = join(dirname(createRequire(import.meta.url).resolve("@sparticuz/chromium")), "..", "..");
const source = join(packageFolder, "bin");
const target = join(import.meta.dirname, "node_modules", ".cache", "chromium");

if (!existsSync(target)) {
  const unfinished = `${target}.${process.pid}`;
  await mkdir(unfinished, { recursive: true });
  for (const name of ["al2023", "swiftshader"]) {
    await pipeline(createReadStream(join(source, `${name}.tar.br`)), createBrotliDecompress(), extract(unfinished));
  }
  await pipeline(
    createReadStream(join(source, "chromium.br")),
    createBrotliDecompress(),
    createWriteStream(join(unfinished, "chromium"), { mode: 0o755 }),
  );
  // Another process may have been faster.
  await rename(unfinished, target).catch(() => rm(unfinished, { recursive: true }));
}
console.log(join(target, "chromium"));
