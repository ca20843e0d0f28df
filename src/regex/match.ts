/** Whether a text is what a regular expression means. */

/** Matches all of the text, case-sensitively. */
export function matchesRegex(regex: string, text: string): boolean {
  return new RegExp(`^(?:${regex})$`).test(text);
}
