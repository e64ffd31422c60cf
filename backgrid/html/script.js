"use strict";
const root = document.documentElement;
const code = document.getElementById("code-toggle");
code.addEventListener("click", () => {
  const shown = root.classList.toggle("show-code");
  code.setAttribute("aria-pressed", shown);
  code.textContent = shown ? "Hide code" : "Show code";
});
const theme = document.getElementById("theme-toggle");
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const name = () => {
  theme.textContent = isDark() ? "Light page" : "Dark page";
  theme.setAttribute("aria-pressed", isDark());
};
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  name();
});
name();
