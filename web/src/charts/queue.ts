/** At most one chart is drawn in an animation frame, so that no frame is long. */
const waiting = new Set<() => void>();
let running = false;

export function enqueue(job: () => void): void {
  waiting.add(job);
  if (running) return;
  running = true;
  requestAnimationFrame(step);
}

export function dequeue(job: () => void): void {
  waiting.delete(job);
}

function step(): void {
  const job = waiting.values().next().value;
  if (!job) {
    running = false;
    return;
  }
  waiting.delete(job);
  job();
  requestAnimationFrame(step);
}
