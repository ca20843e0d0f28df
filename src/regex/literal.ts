/** Texts that regular expressions say letter by letter. */

/** The regular expression (RE2) of which only this text is a full match. */
export function literal(text: string): string {
  return text.replaceAll(/[\\.+*?()|[\]{}^$]/g, '\\$&');
}
