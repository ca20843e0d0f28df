/** Tabs, of which one is shown. */
import type { ComponentChildren } from 'preact';
import { useId, useRef } from 'preact/hooks';

export interface Tab<Id extends string> {
  readonly id: Id;
  readonly title: string;
  /** Beside the title: a number, for example. */
  readonly badge?: ComponentChildren;
}

interface TabsProps<Id extends string> {
  /** What the tabs are about. */
  readonly label: string;
  readonly tabs: readonly Tab<Id>[];
  readonly active: Id;
  readonly onChange: (id: Id) => void;
  /** The content of the active one. */
  readonly children: ComponentChildren;
  readonly class?: string;
}

/** One stop of the Tab key; arrows, Home and End go from one to the next. */
export function Tabs<Id extends string>({ label, tabs, active, onChange, children, class: extra = '' }: TabsProps<Id>) {
  const own = useId();
  const list = useRef<HTMLDivElement>(null);
  const to = (n: number) => {
    const next = tabs[(n + tabs.length) % tabs.length];
    if (!next) return;
    onChange(next.id);
    list.current?.querySelector<HTMLElement>(`[id="${own}-${next.id}"]`)?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const at = tabs.findIndex(({ id }) => id === active);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    to(next);
  };
  return (
    <div class={`tabs ${extra}`}>
      <div class="tab-list" role="tablist" aria-label={label} ref={list}>
        {tabs.map(({ id, title, badge }) => (
          <button
            type="button"
            key={id}
            id={`${own}-${id}`}
            role="tab"
            aria-selected={id === active}
            aria-controls={`${own}-panel`}
            tabIndex={id === active ? 0 : -1}
            onClick={() => onChange(id)}
            onKeyDown={onKeyDown}
          >
            {title}
            {badge !== undefined && <span class="badge">{badge}</span>}
          </button>
        ))}
      </div>
      <div class="tab-panel" role="tabpanel" id={`${own}-panel`} aria-labelledby={`${own}-${active}`}>
        {children}
      </div>
    </div>
  );
}
