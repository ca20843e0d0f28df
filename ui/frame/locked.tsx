/** The page without a session, or before it is known. */
import type { Fault } from '../../src/ui/wire/messages.js';
import { Command, Empty } from '../parts/empty.js';
import { shown } from '../parts/words.js';

/** Why the page cannot be used, and how to open it again. */
export function Locked({ fault, isOver }: { fault: Fault; isOver: boolean }) {
  return (
    <main class="locked">
      <h1 class="sr-only">egress-agent</h1>
      <Empty
        title={isOver ? 'This page is locked' : 'This page cannot be opened'}
        actions={
          <button type="button" onClick={() => location.reload()}>
            Try again
          </button>
        }
      >
        <p>
          {shown(fault.error, 300)}
          {!isOver && fault.hint !== undefined && `: ${shown(fault.hint, 300)}`}
        </p>
        {isOver && (
          <>
            <p>A link opens the page once, in one browser. When the program behind it ends, the page is locked.</p>
            <p>Run this in a terminal, and open the link that it prints:</p>
            <Command>egressctl ui</Command>
          </>
        )}
      </Empty>
    </main>
  );
}

export function Opening() {
  return (
    <main class="locked">
      <h1 class="sr-only">egress-agent</h1>
      <p class="loading" role="status">
        opening …
      </p>
    </main>
  );
}
