// The button that goes round auto, light and dark. Whoever draws with colours listens for "themechange".
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const root = document.documentElement;

function chosen() {
  return root.dataset.theme ?? "auto";
}

function choose(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // It lasts as long as the page.
  }
  document.dispatchEvent(new Event("themechange"));
}

function show(button) {
  const theme = chosen();
  button.dataset.now = theme;
  button.setAttribute("aria-label", `Theme: ${theme}. Change to ${NEXT[theme]}`);
  button.title = `Theme: ${theme}`;
}

export function themeButton(button) {
  show(button);
  button.addEventListener("click", () => {
    choose(NEXT[chosen()]);
    show(button);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.dispatchEvent(new Event("themechange"));
  });
}
