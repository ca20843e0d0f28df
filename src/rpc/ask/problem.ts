import { formatProblem, type Problem } from '../../errors.js';
import type { ProblemMessage } from '../../proto/status.js';

/** A problem as a message, with its fields and as a text. */
export function problemMessage(p: Problem): ProblemMessage {
  const { file, object, field } = p.where;
  return {
    severity: p.severity,
    ...(file === undefined ? {} : { file }),
    ...(object === undefined ? {} : { object }),
    ...(field === undefined ? {} : { field }),
    message: p.message,
    ...(p.hint === undefined ? {} : { hint: p.hint }),
    text: formatProblem(p),
  };
}
