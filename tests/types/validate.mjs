// validate.mjs - is proto/openapi.json an OpenAPI 3.1 document, and is each of its examples what its
// schema says? Prints a line for each check; the last is "N passed, N failed".
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv2020 from "ajv/dist/2020.js";

const contract = JSON.parse(readFileSync(new URL("../../proto/openapi.json", import.meta.url)));
let passed = 0, failed = 0;
function check(what, good, why) {
  console.log(good ? `ok   ${what}` : `FAIL ${what}: ${JSON.stringify(why)}`);
  good ? passed++ : failed++;
}

const verdict = await new Validator().validate(structuredClone(contract));
check("proto/openapi.json is OpenAPI 3.1", verdict.valid, verdict.errors);

const ajv = new Ajv2020({ strict: false, formats: { binary: true, uri: true } });
ajv.addSchema(contract, "contract");
const pointer = (path) => path.map((p) => encodeURIComponent(p.replace(/~/g, "~0").replace(/\//g, "~1"))).join("/");

// Every object with a schema and examples, wherever it stands.
function walk(value, path) {
  if (value === null || typeof value !== "object") return;
  if (value.schema && (value.examples || "example" in value)) {
    const valid = ajv.compile({ $ref: `contract#/${pointer([...path, "schema"])}` });
    const examples = value.examples ?? { example: { value: value.example } };
    for (const [name, example] of Object.entries(examples))
      check(`${path.filter((p) => p !== "content").join(" ")}: ${name}`, valid(example.value), valid.errors);
  }
  for (const [key, inner] of Object.entries(value)) walk(inner, [...path, key]);
}
walk(contract, []);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
