/** egressctl completion: scripts for shells, made from the commands themselves. */
import { type Command, Argument, type Option } from 'commander';
import { line } from './output.js';
import { PROTOCOLS, VERDICTS } from './flow-options.js';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/** Values of options that commander does not know as choices. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  '--verdict': [...VERDICTS, 'ALLOWED', 'DENIED'],
  '--protocol': PROTOCOLS,
  '--type': ['drop', 'trace', 'policy-verdict'],
  '--traffic-direction': ['ingress', 'egress'],
  '--ip-version': ['4', '6'],
  '--reply': ['true', 'false'],
};
const FILES: ReadonlySet<string> = new Set(['--socket', '--manifests']);

export function completionCommand(program: Command): void {
  program
    .command('completion')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .description('Print a completion script for a shell.')
    .addHelpText(
      'after',
      `
  bash: source <(egressctl completion bash)
  zsh:  egressctl completion zsh > "\${fpath[1]}/_egressctl"
  fish: egressctl completion fish > ~/.config/fish/completions/egressctl.fish`,
    )
    .action(async (shell: Shell) => {
      await line({ bash, zsh, fish }[shell](program));
    });
}

function optionsOf(program: Command, command: Command): Option[] {
  return [...program.options, ...command.options].filter((o) => !o.hidden && o.long);
}

function valuesOf(option: Option): readonly string[] {
  return option.argChoices ?? VALUES[option.long ?? ''] ?? [];
}

function bash(program: Command): string {
  const cases = program.commands.map((c) => {
    const words = optionsOf(program, c).flatMap((o) => [o.long, o.short].filter((s) => s));
    return `    ${c.name()}) words="${words.join(' ')} --help" ;;`;
  });
  const values = new Map<string, readonly string[]>();
  for (const c of program.commands) {
    for (const o of optionsOf(program, c))
      if (valuesOf(o).length > 0) values.set([o.long, o.short].filter((s) => s).join('|'), valuesOf(o));
  }
  return `# bash completion for egressctl
_egressctl() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command= word words=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in -*) ;; *) command=$word; break ;; esac
  done
  case $prev in
    ${[...FILES].join('|')}) compopt -o default; return ;;
${[...values].map(([names, list]) => `    ${names}) mapfile -t COMPREPLY < <(compgen -W "${list.join(' ')}" -- "$cur"); return ;;`).join('\n')}
  esac
  case $command in
    completion) words="${SHELLS.join(' ')}" ;;
    validate) [[ $cur == -* ]] || { compopt -o default; return; } ;;&
${cases.join('\n')}
    *) words="${program.commands.map((c) => c.name()).join(' ')} --help --version" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _egressctl egressctl kubectl-egress`;
}

function zsh(program: Command): string {
  const quote = (s: string) => s.replace(/'/g, "'\\''").replace(/[[\]:]/g, '\\$&');
  const argument = (o: Option) => {
    if (!o.required && !o.optional) return '';
    const action = FILES.has(o.long ?? '') ? '_files' : valuesOf(o).length > 0 ? `(${valuesOf(o).join(' ')})` : ' ';
    return `:${quote(o.attributeName())}:${action}`;
  };
  const spec = (o: Option) => `      '*${o.long}[${quote(o.description)}]${argument(o)}'`;
  return `#compdef egressctl
_egressctl() {
  local -a commands=(
${program.commands.map((c) => `    '${c.name()}:${quote(c.description())}'`).join('\n')}
  )
  local curcontext="$curcontext" state line
  _arguments -C '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument) case $line[1] in
${program.commands
  .map(
    (c) =>
      `    ${c.name()}) _arguments \\\n${[...optionsOf(program, c).map(spec), `      '*:argument:${c.name() === 'completion' ? `(${SHELLS.join(' ')})` : '_files'}'`].join(' \\\n')} ;;`,
  )
  .join('\n')}
    esac ;;
  esac
}
compdef _egressctl egressctl`;
}

function fish(program: Command): string {
  const quote = (s: string) => `'${s.replace(/[\\']/g, '\\$&')}'`;
  const lines = ['# fish completion for egressctl', 'complete -c egressctl -f'];
  for (const c of program.commands) {
    lines.push(`complete -c egressctl -n __fish_use_subcommand -a ${c.name()} -d ${quote(c.description())}`);
    for (const o of optionsOf(program, c)) {
      const short = o.short ? ` -s ${o.short.slice(1)}` : '';
      const value =
        !o.required && !o.optional ? '' : FILES.has(o.long ?? '') ? ' -r -F' : ` -x -a ${quote(valuesOf(o).join(' '))}`;
      lines.push(
        `complete -c egressctl -n '__fish_seen_subcommand_from ${c.name()}' -l ${(o.long ?? '').slice(2)}${short}${value} -d ${quote(o.description)}`,
      );
    }
  }
  lines.push(`complete -c egressctl -n '__fish_seen_subcommand_from completion' -a ${quote(SHELLS.join(' '))}`);
  lines.push(`complete -c egressctl -n '__fish_seen_subcommand_from validate' -F`);
  return lines.join('\n');
}
