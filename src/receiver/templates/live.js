// Keeps a page up to date without loading it whole: on each event the page is fetched again and the part that changes is replaced.
// Without this script the page loads itself again by <meta refresh>.
(() => {
  "use strict";
  const state = document.getElementById("state");
  let busy = false;
  let again = false;

  const say = (text) => {
    if (state && state.textContent !== text) state.textContent = text;
  };

  const newest = (root) =>
    Math.max(0, ...Array.from(root.querySelectorAll("tr[data-seq]"), (row) => Number(row.dataset.seq)));

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const now = document.getElementById("live");
      const next = page.getElementById("live");
      if (answer.ok && now && next) {
        const known = newest(now);
        for (const row of next.querySelectorAll("tr[data-seq]")) {
          if (Number(row.dataset.seq) > known) row.classList.add("fresh");
        }
        const focused = now.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        now.replaceWith(document.adoptNode(next));
        if (focused) {
          const same = Array.from(next.querySelectorAll("a")).find((link) => link.getAttribute("href") === focused);
          if (same) same.focus({ preventScroll: true });
        }
      }
    } catch {
      say("No connection; trying again.");
    } finally {
      busy = false;
      if (again) {
        again = false;
        refresh();
      }
    }
  }

  const events = new EventSource("/v1/live");
  let opened = false;
  events.addEventListener("open", () => {
    say("Live.");
    // After a break something may have been missed.
    if (opened) refresh();
    opened = true;
  });
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) {
      say("Not live any more: load the page again.");
    } else {
      say("No connection; trying again.");
    }
  });
  events.addEventListener("readings", refresh);
  // "2 min ago" grows old on a page where nothing happens.
  setInterval(() => {
    if (!document.hidden) refresh();
  }, 60000);
})();
