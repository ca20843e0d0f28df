/** The screen status. */
export function StatusScreen() {
  return <h1 class="title">Status</h1>;
}
