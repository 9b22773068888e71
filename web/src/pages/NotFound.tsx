export function NotFound() {
  return (
    <section class="card notice-card">
      <h1>There is no such page</h1>
      <p>
        Go to the <a href="/">wall</a> or to the <a href="/runs">list of all runs</a>.
      </p>
    </section>
  );
}
