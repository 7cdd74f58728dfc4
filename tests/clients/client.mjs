// fetch and http of node against answers that come before a body was sent: see client.py.
import http from "node:http";

const [library, base, status, method, path, kind, megabytes, form, times] = process.argv.slice(2);
const piece = Buffer.alloc(1 << 16);
const nPieces = megabytes * 16;

async function byFetch() {
  const body = form === "length" ? Buffer.alloc(megabytes << 20) : new ReadableStream({
    i: 0,
    pull(controller) {
      if (this.i++ < nPieces) controller.enqueue(piece);
      else controller.close();
    },
  });
  const answer = await fetch(base + path, { method, body, headers: { "Content-Type": kind }, duplex: "half" });
  return [answer.status, await answer.text()];
}

function byHttp() {
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": kind };
    if (form === "length") headers["Content-Length"] = megabytes << 20;
    const request = http.request(base + path, { method, headers, agent: false }, (answer) => {
      let text = "";
      answer.on("data", (data) => { text += data; });
      answer.on("end", () => resolve([answer.statusCode, text]));
      answer.on("error", reject);
    });
    let i = 0;
    const send = () => {
      while (i++ < nPieces)
        if (!request.write(piece)) return void request.once("drain", send);
      request.end();
    };
    request.on("error", reject);
    send();
  });
}

const got = {};
for (let i = 0; i < times; i++) {
  let what;
  try {
    const [code, text] = await (library === "fetch" ? byFetch() : byHttp());
    what = text.startsWith("{") ? String(code) : `${code} without a problem`;
  } catch (e) {
    what = String(e.cause ?? e);
  }
  got[what] = (got[what] ?? 0) + 1;
}
console.log(got[status] ?? 0, JSON.stringify(got));
