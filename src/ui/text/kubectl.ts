/** A command that writes a policy. Pure; for browsers, too. */

/** `kubectl apply` with the text as a here-document, whose end is a line that the text does not have. */
export function kubectlCommand(text: string): string {
  const lines = new Set(text.split(/\r?\n/));
  let end = 'EOF';
  for (let n = 1; lines.has(end); n++) end = `EOF_${n}`;
  return `kubectl apply -f - <<'${end}'\n${text}${text.endsWith('\n') ? '' : '\n'}${end}\n`;
}
