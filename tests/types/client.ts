// client.ts - a client of a few lines, as a user would write it; compiled against the generated types
// and run against the daemon at argv[2].
import createClient from "openapi-fetch";
import type { paths } from "./build/api.js";

type Json = "application/json" | "application/problem+json";

const saed = createClient<paths, Json>({ baseUrl: process.argv[2] });
const path = { name: "id" };
const x = [[0.5, -1, 0, 2], [0, 0, 3, 0]];

const top = await saed.POST("/v1/dictionaries/{name}/encode", { params: { path, query: { top_k: 2 } }, body: { x } });
if (!top.data) throw new Error(`${top.error?.code}: ${top.error?.detail}`);
if ("indices" in top.data.f) console.log(JSON.stringify(top.data.f.indices)); // [[3,0],[2]]

const bytes = await saed.POST("/v1/dictionaries/{name}/decode", {
  params: { path, header: { "Saed-Shape": "2,4" } },
  headers: { "Content-Type": "application/octet-stream" },
  body: new Blob([new Float32Array(x.flat())]),
  bodySerializer: (body) => body,
  parseAs: "arrayBuffer",
});
if (bytes.data) console.log(new Float32Array(bytes.data).join(" ")); // 0.5 -1 0 2 0 0 3 0

const wrong = await saed.POST("/v1/dictionaries/{name}/encode", { params: { path }, body: { x: [[1, 2, 3]] } });
console.log(wrong.error?.status, wrong.error?.code, wrong.error?.limit); // 400 bad_shape undefined

const one = await saed.GET("/v1/dictionaries/{name}", { params: { path } });
const dims: [number | null, number | null] | undefined = one.data && [one.data.activation_dim, one.data.dict_size];
console.log(dims?.join("x")); // 4x4

// @ts-expect-error: encode wants x
void (() => saed.POST("/v1/dictionaries/{name}/encode", { params: { path }, body: { f: x } }));
