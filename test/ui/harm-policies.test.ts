/** An agent whose every text means harm: nothing of it runs on the other screens, nor of addresses made by somebody else. */
import t from 'tap';
import { press, tryHarm } from './harm.js';

t.setTimeout(180_000);

t.test('policies, recommendations, status, addresses', (t) =>
  tryHarm(t, {
    policies: ['/policies?w=35d', press('j', 'j', 'Enter')],
    editor: ['/policies?w=35d', press('j', 'j', 'j', 'e')],
    recommend: ['/recommend?w=35d&show=all', press('j', 'Enter')],
    status: ['/status', press('j', 'Enter')],
    'an address that somebody else made': [
      '/graph?w=<script>&ns=%22onload=x&f=fqdn:<img src=x>&f=__proto__:1&at=ns/../..&sel=%00&most=1e9&theme=%27',
    ],
    'another one': ['/policies?policy=javascript:alert(1)&edit=<svg/onload=alert(1)>&q=%F0%9F%92%A9&show=constructor'],
  }),
);
