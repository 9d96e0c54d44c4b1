// The page's own module again, in a worker: first comes where it lies and its compiled form, then commands.
// What arrives before the module runs is handed on when it does.
let waiting = [];
let running = false;

self.addEventListener("message", async (event) => {
  if (running) return;
  event.stopImmediatePropagation();
  waiting.push(event.data);
  if (waiting.length > 1) return;
  const [url, module] = waiting[0];
  const { initSync } = await import(url);
  running = true;
  initSync({ module });
  for (const data of waiting.slice(1)) self.dispatchEvent(new MessageEvent("message", { data }));
  waiting = [];
});
