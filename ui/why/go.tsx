/** A link to a screen of this page. */
import type { ComponentChildren } from 'preact';
import { go, href, type Screen } from '../state/url.js';

interface GoProps {
  readonly to: Screen;
  readonly with: Readonly<Record<string, string | undefined>>;
  readonly className?: string;
  readonly children: ComponentChildren;
}

export function Go({ to, with: changes, className, children }: GoProps) {
  const address = href(to, { why: undefined, ...changes });
  return (
    <a
      class={className}
      href={address}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(address);
      }}
    >
      {children}
    </a>
  );
}
