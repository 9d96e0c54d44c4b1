// The page's own module again, in a worker: first comes where it lies, its compiled form and where the module lies that is loaded
// when it is needed, then commands.
// What arrives before the module runs is handed on when it does.
let waiting = [];
let running = false;

self.addEventListener("message", async (event) => {
  if (running) return;
  event.stopImmediatePropagation();
  waiting.push(event.data);
  if (waiting.length > 1) return;
  const [url, module, extras] = waiting[0];
  self.loadExtras = async () => {
    const module = await import(extras);
    await module.default();
    return module;
  };
  const { initSync } = await import(url);
  running = true;
  initSync({ module });
  for (const data of waiting.slice(1)) self.dispatchEvent(new MessageEvent("message", { data }));
  waiting = [];
});
