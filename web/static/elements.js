// Elements made by hand: what people and files are called goes in as text, never as markup.

// el("p", { className: "problem" }, "text", otherElement, null): null and "" add nothing.
export function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

// A name of somebody else's, kept apart from the direction of the text around it.
export const name = (text) => el("bdi", {}, text);
