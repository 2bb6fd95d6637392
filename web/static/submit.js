// The page for a new job: takes what is chosen or dropped, looks at it at once, and sends it.
// Without this script the form is an ordinary one.

import { el } from "./elements.js";
import { many, sentence } from "./figures.js";
import { look } from "./firstlook.js";
import { prepare } from "./input.js";
import { size as bytes } from "./lengths.js";
import { chosen, dropped, together } from "./picked.js";
import { Sending } from "./sending.js";
import { Lost, Refused } from "./upload.js";
import { complain, listOf, say, sayBesides, sayFindings, sayNothing, showContents, toCheck } from "./verdict.js";
import { Unreadable } from "./zipping.js";

const FIELDS = ["job_name", "model", "zip_url"]; // that have a place for what is wrong with them
const REMEMBERED = "modelrunner.model";
const at = (id) => document.getElementById(id);
const form = at("submit"), send = at("send");

let picked = null; // {items, skipped}, or null
let input = null; // what prepare() made of it for the chosen model
let doubts = []; // what will surely be refused
let taking = Promise.resolve(); // what is being picked, one after the other
let looking = Promise.resolve();
let round = 0; // the number of the newest look: an older one that ends later says nothing
let named = ""; // the name that was filled in by us
const sending = new Sending();

// --- the model

const panels = [...document.querySelectorAll(".needs")];
const modelName = () => new FormData(form).get("model") || "";
const panel = () => panels.find((p) => p.dataset.model === modelName());
const wanted = () => JSON.parse(panel()?.dataset.wants ?? "[]");

function showModel() {
  const list = at("all-needs");
  if (!list) return; // cards show theirs by themselves
  list.open = true;
  list.hidden = !panel();
  for (const p of panels) p.parentElement.hidden = p !== panel();
}

function modelChanged() {
  try {
    localStorage.setItem(REMEMBERED, modelName());
  } catch { /* private windows may have none */ }
  complain("model", "");
  showModel();
  lookAgain();
}

function recallModel() {
  let last = "";
  try {
    last = localStorage.getItem(REMEMBERED) ?? "";
  } catch { /* see above */ }
  if (modelName() || !last) return;
  const field = form.elements.model;
  if (field && panels.some((p) => p.dataset.model === last)) field.value = last;
}

// --- the input

// A large folder takes a while to read: what is picked meanwhile still comes after it.
function take(reading) {
  reading.catch(() => {}); // heard when it is its turn
  taking = taking.then(async () => {
    picked = together(picked, await reading);
    lookAgain();
  }).catch(cannotTake);
}

function cannotTake(error) {
  picked = input = null;
  doubts = [];
  disarm();
  showPicked();
  say("problem", "This cannot be taken", sentence(error.message || error.name));
}

function forget() {
  picked = null;
  at("zip_file").value = at("folder").value = "";
  lookAgain();
  at("zip_file").focus();
}

function lookAgain() {
  const mine = ++round;
  looking = lookAt(mine).catch((error) => {
    if (mine === round) cannotTake(error);
  });
}

async function lookAt(mine) {
  doubts = [];
  input = null;
  disarm();
  if (!picked) {
    sayNothing();
    showPicked();
    return;
  }
  const files = wanted();
  const made = await prepare(picked, files);
  const lines = made.entries && !made.fault ? await look(made.entries, files) : [];
  if (mine !== round) return;
  input = made;
  doubts = made.fault ? [made.fault] : lines.filter((line) => line.mark === "bad" && line.sure);
  fillName(made.name);
  showPicked();
  showLook(lines);
}

function fillName(text) {
  const field = at("job_name");
  if (field.value && field.value !== named) return;
  named = clean(text);
  field.value = named;
}

// As the server wants a name: one line that reads as it is written, up to 200 characters.
function clean(text) {
  const plain = text.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, "");
  return [...plain.trim()].slice(0, 200).join("");
}

// --- what is shown of it

function showPicked() {
  const files = picked?.items ?? [];
  at("picked").hidden = !files.length;
  at("drop").classList.toggle("full", files.length > 0);
  if (files.length) {
    const total = files.reduce((sum, { file }) => sum + file.size, 0);
    at("picked-name").textContent = files.length === 1 ? files[0].path : `${input?.name ?? ""}`;
    at("picked-size").textContent = files.length === 1 ? bytes(total) : `${many(files.length, "file")}, ${bytes(total)}`;
  }
  showContents(input?.entries);
}

function showLook(lines) {
  const notes = input.notes.map((text) => el("p", { className: "quiet" }, text));
  const list = listOf(lines);
  if (input.fault) say("problem", "This will be refused", input.fault, ...notes);
  else if (doubts.length) say("problem", "This will be refused", null, list, ...notes);
  else if (lines.some((line) => line.mark === "bad")) say("note", "Something may be wrong with it", null, list, ...notes);
  else if (!modelName()) say("note", "Which model is it for?", "Choose one above, and you will see whether it has what the model needs.", ...notes);
  else if (list) say("good", "It has what the model needs", "The server checks it once more before it is queued.", list, ...notes);
  else say("good", input.entries ? "It can be read" : "It is a zip", "The server checks it before it is queued.", ...notes);
}

// --- sending

// A second press sends what will surely be refused all the same: who knows better may be right.
function armed() {
  if (!doubts.length || send.dataset.armed) return true;
  send.dataset.armed = "yes";
  send.textContent = "Send it anyway";
  sayBesides(el("strong", {}, "Nothing was sent."), " Choose another input, or press “Send it anyway” to let the server decide.");
  toCheck();
  return false;
}

function disarm() {
  delete send.dataset.armed;
  send.textContent = "Submit";
}

async function submit(onlyCheck) {
  if (sending.busy) return;
  await settled();
  if (sending.busy) return; // a second press meanwhile
  const url = at("zip_url").value.trim();
  for (const field of FIELDS) complain(field, "");
  const lacking = missing(url, onlyCheck);
  if (lacking) {
    if (lacking.field) complain(lacking.field, lacking.text);
    else say("problem", lacking.title, lacking.text);
    toProblem(lacking.field);
    return;
  }
  if (!onlyCheck && !armed()) return; // a check does no harm
  fillName(input?.name || nameOf(url) || "job");
  await deliver({ model: modelName(), name: at("job_name").value.trim() || "job", input, url }, onlyCheck);
}

// Until all that was picked, also meanwhile, was looked at.
async function settled() {
  for (let seen = []; seen[0] !== taking || seen[1] !== looking; await Promise.all(seen)) {
    seen = [taking, looking];
  }
}

function toProblem(field) {
  const controls = form.querySelectorAll(`[name="${field}"]`);
  if (!controls.length) toCheck();
  else controls[0].focus();
}

function missing(url, onlyCheck) {
  if (!modelName()) return { field: "model", text: "Choose the model that is to run." };
  if (picked && url) return { field: "zip_url", text: "There are two inputs, this address and the files above: remove one." };
  if (!picked && url && onlyCheck) {
    return { title: "This cannot be checked from here", text: "What lies at an address is checked when it was fetched, before it runs. Submit it." };
  }
  if (!picked && !url) return { title: "There is no input yet", text: "Drop a zip, files or a folder above, or choose them." };
  return null;
}

const nameOf = (url) => clean(decoded(url.split(/[?#]/)[0].split("/").pop().replace(/\.zip$/i, "")));

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function deliver(job, onlyCheck) {
  try {
    const answer = await sending.run(job, onlyCheck);
    if (!onlyCheck) {
      say("good", "It is queued", "The job's page opens.");
      location.assign(`/jobs/${answer.id}`);
      return;
    }
    say("good", "The server has checked it: the input is good", "Nothing was queued. Press Submit to run it.");
  } catch (error) {
    disarm();
    toProblem(explain(error));
    return;
  }
  toCheck();
}

// The field that is wrong, if it is one with a place of its own for that.
function explain(error) {
  if (error instanceof Refused) return refused(error);
  if (error instanceof Lost) {
    say("problem", "The server cannot be reached", "The connection was lost, and trying again did not help. " +
      "Press Submit to try once more: what arrived already is not run twice.");
  } else if (error instanceof Unreadable) say("problem", "A file cannot be read", error.message);
  else if (error.name === "AbortError") say("note", "Cancelled", error.message);
  else {
    say("problem", "This did not work", sentence(error.message || error.name));
    throw error; // a fault of ours: the browser's console knows more
  }
}

function refused({ problem, later }) {
  const field = FIELDS.find((field) => field === problem.field);
  if (field) complain(field, sentence(problem.detail));
  if (field === "zip_url") at("by-url").open = true;
  const title = later ? "The server cannot take it now" : "The server refused it";
  const found = problem.findings.length > 0;
  const said = field ? "Nothing was queued. What is wrong stands beside the field." : sentence(problem.detail);
  say("problem", title, found ? "Nothing was queued. Correct this, and submit again:" : said);
  if (found) sayFindings(problem.findings);
  return field;
}

// --- wiring

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

function dragging(yes, over = false) {
  document.body.classList.toggle("dragging", yes);
  at("drop").classList.toggle("over", over);
}

// Anywhere on the page: what misses the zone would otherwise replace the page.
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = sending.busy ? "none" : "copy";
  dragging(!sending.busy, at("drop").contains(event.target));
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) dragging(false);
});
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  dragging(false);
  if (sending.busy) return;
  at("zip_file").value = at("folder").value = "";
  take(dropped(event.dataTransfer));
});
for (const [own, other] of [["zip_file", "folder"], ["folder", "zip_file"]]) {
  at(own).addEventListener("change", () => {
    at(other).value = "";
    const files = at(own).files;
    if (files.length) take(Promise.resolve().then(() => chosen(files)));
    else forget();
  });
}
at("remove").addEventListener("click", forget);
at("only-check").addEventListener("click", () => submit(true));
form.addEventListener("change", (event) => {
  if (event.target.name === "model") modelChanged();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit(false);
});
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  sending.reset(); // back from the job's page
  lookAgain();
});

document.documentElement.classList.add("scripts");
at("zip_file").multiple = true;
at("job_name").required = false;
form.noValidate = true;
recallModel();
showModel();
if (at("zip_file").files.length) take(Promise.resolve().then(() => chosen(at("zip_file").files))); // after a reload
