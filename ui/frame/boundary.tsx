/** A screen that breaks does not take the page with it. */
import { Component, type ComponentChildren } from 'preact';
import { Empty } from '../parts/empty.js';
import { shown } from '../parts/words.js';

interface State {
  readonly error?: string;
}

/** Give it the screen's name as its key, so that another screen begins anew. */
export class Boundary extends Component<{ children: ComponentChildren }, State> {
  override state: State = {};

  static override getDerivedStateFromError(error: unknown): State {
    return { error: error instanceof Error ? error.message : String(error) };
  }

  override componentDidCatch(error: unknown): void {
    console.error(error);
  }

  override render() {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    return (
      <Empty
        title="This screen broke"
        actions={
          <button type="button" class="primary" onClick={() => this.setState({ error: undefined })}>
            Show it again
          </button>
        }
      >
        <p>The other screens go on. What happened: {shown(error, 300)}</p>
        <p>If it happens again with this address, please report both.</p>
      </Empty>
    );
  }
}
