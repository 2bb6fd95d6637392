// What is pressed twice counts once: the second click of a double click would make a second job.

const TWICE = 3000; // milliseconds in which a second click on a button is a double click

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => { delete form.dataset.sent; }, TWICE);
});
