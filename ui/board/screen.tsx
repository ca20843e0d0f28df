/** The screen board. */
export function BoardScreen() {
  return <h1 class="title">Board</h1>;
}
