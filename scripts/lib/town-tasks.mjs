/**
 * The small convoy that a first town works on, written for the scripted model (model-server/README.md).
 *
 * A bead's body is its agent's script, and the summary of its last call is the script of whoever reviews it. Two agents begin side by side;
 * the third waits for what both made. The poet stops in the middle until its half is in a commit: it never makes one, only an eviction does.
 *
 * Whoever goes on with the work of an agent that was taken away begins its script anew: so every step may have been done before, or half.
 */

/** What the poet says when half of its work is on the disk, and nowhere else. */
export const HALF_WAY = "Half of the poem is written";

/** What is on the default branch when all is done, by path. The last one shows that its agent saw what the others had made. */
export const FILES = {
  "GREETING.md": "Hello from a town that Holdfast holds fast.",
  "POEM.md": "Roses are red,\nevictions are due.",
  "CONTENTS.md": "GREETING.md\nPOEM.md\nREADME.md",
};

/** Calls a tool of the town. */
export const tool = (name, args) => `@tool ${name} ${JSON.stringify(args)}`;

/** Merges the branch that is checked out, as a reviewer that is content does: without any change to a file on the disk, so that nothing is left if it is cut short. */
const MERGE = [
  `ours=origin/main theirs=origin/$(git branch --show-current)`,
  `merge() { git merge-base --is-ancestor $theirs $ours || git push -q origin $(git commit-tree -m "Merge $theirs" -p $ours -p $theirs $(git merge-tree --write-tree $ours $theirs)):main; }`,
  `for n in 1 2 3; do git fetch -q origin && merge && break; sleep 1; done`,
].join("; ");

export const REVIEW = [
  `@bash ${MERGE}`,
  tool("gt_done", { summary: "Merged" }),
].join("\n");

/** Commits, pushes, and asks for a review. */
export const deliver = (message) => [
  `@bash git add --all && { git diff --cached --quiet || git commit -q -m ${JSON.stringify(message)}; } && git push -q --set-upstream origin HEAD`,
  tool("gt_done", { summary: REVIEW }),
];

const isSaved = "git cat-file -e HEAD:POEM.md 2>/dev/null";
const [first, second] = FILES["POEM.md"].split("\n");

/** The tasks, for `sling-batch`. */
export const TASKS = [
  {
    title: "Write a greeting",
    body: ["Add GREETING.md.", `@write GREETING.md ${FILES["GREETING.md"]}`, ...deliver("Add a greeting")].join("\n"),
  },
  {
    title: "Write a poem",
    body: [
      "Add POEM.md.",
      `@bash test -s POEM.md || echo ${JSON.stringify(first)} > POEM.md`,
      tool("gt_status", { message: HALF_WAY }),
      `@bash ${isSaved} || sleep 100`,
      `@bash grep -qx ${JSON.stringify(second)} POEM.md || echo ${JSON.stringify(second)} >> POEM.md`,
      ...deliver("Finish the poem"),
    ].join("\n"),
  },
  {
    title: "List what there is",
    body: ["Add CONTENTS.md.", "@bash ls GREETING.md POEM.md README.md > CONTENTS.md", ...deliver("List what there is")].join("\n"),
    depends_on: [0, 1],
  },
];
