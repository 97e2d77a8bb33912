// Starts the OpenAI stand-in of the npm package on a free port of the loopback and prints its address.
//   node server.mjs PACKAGE_DIRECTORY FIXTURES
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [directory, fixtures] = process.argv.slice(2);
const entry = createRequire(`${directory}/`).resolve("@copilotkit/aimock");
const { LLMock } = await import(pathToFileURL(entry).href);
const server = new LLMock({ host: "127.0.0.1", port: 0 });
server.loadFixtureFile(fixtures);
await server.start();
console.log(server.url);
