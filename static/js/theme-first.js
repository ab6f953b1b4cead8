// Runs before the first paint, so that a chosen theme never flashes the other one, and what needs scripts has its place
// from the start. Not a module: modules wait.
(() => {
  document.documentElement.classList.add("js");
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is switched off: the system's theme is used.
  }
})();
