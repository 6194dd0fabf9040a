"use strict";
const root = document.documentElement;
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
const show = (dark) => { root.dataset.theme = dark ? "dark" : "light"; };
show(prefersDark.matches);
prefersDark.addEventListener("change", (event) => show(event.matches));
document.getElementById("theme").addEventListener("click", () => show(root.dataset.theme !== "dark"));

const gallery = document.querySelector(".gallery");
const buttons = document.querySelectorAll("[data-view]");
const overlay = (on) => gallery.querySelectorAll("tbody tr").forEach((row) => {
  const dense = row.querySelector("img[data-dense]");
  row.querySelectorAll(".over").forEach((image) => image.remove());
  if (on && dense) row.querySelectorAll(".frame").forEach((frame) => {
    const image = new Image();
    image.className = "over " + dense.className;
    image.src = dense.src;
    frame.append(image);
  });
});
buttons.forEach((button) => button.addEventListener("click", () => {
  const diff = button.dataset.view === "diff";
  gallery.classList.toggle("diff", diff);
  overlay(diff);
  buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
}));

const dialog = document.querySelector("dialog");
gallery.addEventListener("click", (event) => {
  const image = event.target.closest("img");
  if (!image) return;
  dialog.querySelector("img").src = image.src;
  dialog.querySelector("img").className = image.className;
  dialog.querySelector("p").textContent = image.alt;
  dialog.showModal();
});
dialog.addEventListener("click", () => dialog.close());

const loaded = () => {
  const images = [...gallery.querySelectorAll("img")];
  const whole = images.filter((image) => image.complete && image.naturalWidth > 0).length;
  root.dataset.pictures = whole + "/" + images.length;
  document.getElementById("broken").hidden = whole === images.length;
};
window.addEventListener("load", loaded);
