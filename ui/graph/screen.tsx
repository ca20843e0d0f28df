/** The screen graph. */
export function GraphScreen() {
  return <h1 class="title">Graph</h1>;
}
