// generate.mjs FILE - TypeScript types of proto/openapi.json; bodies of bytes are Blobs.
import { writeFileSync } from "node:fs";
import ts from "typescript";
import openapiTS, { astToString } from "openapi-typescript";

const blob = ts.factory.createTypeReferenceNode("Blob");
const types = await openapiTS(new URL("../../proto/openapi.json", import.meta.url), {
  transform: (schema) => (schema.format === "binary" ? blob : undefined),
});
writeFileSync(process.argv[2], astToString(types));
