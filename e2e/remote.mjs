/**
 * A git remote over HTTP. It lives outside of every container, as remotes do: a container that is killed in the middle of a push takes its own side of it
 * along, and not the server's, which of a `file://` remote would die with its locks held.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";

/**
 * Serves the repositories of a folder for reading and writing, to everybody on this machine.
 *
 * @param {string} folder
 * @returns {Promise<{url: string, close: () => void}>}
 */
export async function serveRepositories(folder) {
  const server = createServer((request, response) => answer(folder, request, response)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}

function answer(folder, request, response) {
  const { pathname, search } = new URL(request.url, "http://localhost");
  const { headers } = request;
  const git = spawn("git", ["http-backend"], {
    env: {
      PATH: process.env.PATH,
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: "1",
      REMOTE_USER: "anybody", // may push
      REQUEST_METHOD: request.method,
      PATH_INFO: pathname,
      QUERY_STRING: search.slice(1),
      CONTENT_TYPE: headers["content-type"] ?? "",
      HTTP_CONTENT_ENCODING: headers["content-encoding"] ?? "",
      GIT_PROTOCOL: headers["git-protocol"] ?? "",
    },
    stdio: ["pipe", "pipe", "ignore"],
  });
  request.pipe(git.stdin).on("error", () => {}); // it has heard enough
  request.on("aborted", () => git.stdin.destroy());
  let head = Buffer.alloc(0);
  git.stdout.on("data", function read(chunk) {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    git.stdout.off("data", read);
    const lines = head.subarray(0, end).toString().split("\r\n").map((line) => line.split(": "));
    const { Status: status = "200", ...own } = Object.fromEntries(lines);
    response.writeHead(parseInt(status), own).write(head.subarray(end + 4));
    git.stdout.pipe(response);
  });
  git.on("error", () => response.destroy());
}
