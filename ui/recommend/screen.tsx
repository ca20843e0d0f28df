/** The screen recommend. */
export function RecommendScreen() {
  return <h1 class="title">Recommend</h1>;
}
