/** The screen flows. */
export function FlowsScreen() {
  return <h1 class="title">Flows</h1>;
}
