// A file that is called a picture and is none, or is of a kind that this browser cannot show, is
// said to be so: a browser alone would draw a torn leaf.

const main = document.getElementById("main");

function explain(image) {
  const said = document.createElement("span");
  said.className = "torn";
  said.textContent = "This cannot be shown as a picture.";
  image.replaceWith(said);
}

// Those that had failed before this script ran. An SVG without a size may have no width, and
// what is lazy and below the window has not been tried.
function failed(image) {
  const tried = image.loading !== "lazy" || image.getBoundingClientRect().top < innerHeight;
  return image.complete && !image.naturalWidth && tried && !/\.svg$/i.test(image.src);
}

main.addEventListener("error", ({ target }) => {
  if (target.localName === "img") explain(target);
}, true); // it does not bubble
for (const image of main.querySelectorAll("img")) if (failed(image)) explain(image);
