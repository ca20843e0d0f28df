/** All exports of one process. */
import { AgentError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Sink } from './base/sink.js';
import type { ExportSpec } from './base/spec.js';
import type { ExportStatus } from './counts.js';
import { Exporter, type FlowSource } from './exporter.js';
import { FileSink } from './sinks/file.js';
import { StdoutSink } from './sinks/stdout.js';
import { SyslogSink } from './sinks/syslog.js';
import { type OpenUnixDatagram, SyslogUdp, SyslogUnix } from './sinks/syslog-datagram.js';
import { SyslogStream } from './sinks/syslog-stream.js';

export interface ExportsParts {
  readonly specs: readonly ExportSpec[];
  readonly source: FlowSource;
  /** Node of all flows; empty: of several. */
  readonly node: string;
  readonly log: Logger;
  /** Opens a datagram socket of a path; absent: there is none here. */
  readonly openUnixDatagram?: OpenUnixDatagram;
}

export class Exports {
  readonly #exporters: readonly Exporter[];

  private constructor(exporters: readonly Exporter[]) {
    this.#exporters = exporters;
  }

  /**
   * Starts them with the flows from now on. A collector that cannot be reached is tried again.
   * @throws AgentError USAGE if there is no such export in this program
   */
  static async start({ specs, source, node, log, openUnixDatagram }: ExportsParts): Promise<Exports> {
    const exporters: Exporter[] = [];
    for (const spec of specs) {
      const sink = await sinkOf(spec, openUnixDatagram);
      exporters.push(new Exporter({ spec, sink, source, node, log }));
      log.info('exporting flows', { to: spec.target });
    }
    for (const exporter of exporters) exporter.start();
    return new Exports(exporters);
  }

  status(): ExportStatus[] {
    return this.#exporters.map((exporter) => exporter.status());
  }

  /** Writes what is there and ends. @param limitMs milliseconds, for all of them together */
  async close(limitMs: number): Promise<void> {
    await Promise.all(this.#exporters.map((exporter) => exporter.close(limitMs)));
  }
}

async function sinkOf({ sink, target }: ExportSpec, open: OpenUnixDatagram | undefined): Promise<Sink> {
  switch (sink.kind) {
    case 'jsonl':
      return new FileSink(sink);
    case 'stdout':
      return new StdoutSink();
    case 'otlp': {
      // The packages of OpenTelemetry are loaded where they are used.
      const { otlpSink } = await import('./sinks/otlp-sink.js');
      return otlpSink(sink);
    }
    case 'syslog':
      switch (sink.transport) {
        case 'udp':
          return new SyslogSink(sink, new SyslogUdp(sink));
        case 'tcp':
        case 'tls':
          return new SyslogSink(sink, new SyslogStream(sink));
        case 'unix':
          if (!open) throw new AgentError('USAGE', `--export ${target}: only agents write to unix sockets`);
          return new SyslogSink(sink, new SyslogUnix(sink.path, open));
      }
  }
}
