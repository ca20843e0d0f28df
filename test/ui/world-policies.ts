/** The policies of the world of the web UI's tests, by the name of their manifest file: every language, every state. */
import { servers } from '../netns/world.js';

const { one, two } = servers;

/** What the server `one` is called. */
export const PAYMENTS = 'payments.example.com';

export const POLICIES: Readonly<Record<string, string>> = {
  // NetworkPolicy: in force.
  'shop-web': `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
    # The API of the shop.
    - to: [{podSelector: {matchLabels: {app: api}}}]
      ports: [{protocol: TCP, port: 8080}]
    - to: [{ipBlock: {cidr: ${one.ip4}/32}}, {ipBlock: {cidr: ${one.ip6}/128}}]
      ports: [{protocol: TCP, port: 443}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [web, checkout]}]}
  policyTypes: [Egress]
  egress:
    - to:
        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
          podSelector: {matchLabels: {k8s-app: kube-dns}}
      ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
`,
  // FQDNNetworkPolicy: a name that checkout really looks up.
  'shop-checkout': `
apiVersion: networking.gke.io/v1alpha1
kind: FQDNNetworkPolicy
metadata: {name: checkout, namespace: shop}
spec:
  podSelector: {matchLabels: {app: checkout}}
  egress:
    - matches: [{name: ${PAYMENTS}}]
      ports: [{protocol: TCP, port: 443}]
`,
  // Cilium: allows and denials.
  'shop-api': `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  egress:
    - toEndpoints: [{matchLabels: {app: db, "k8s:io.kubernetes.pod.namespace": data}}]
      toPorts: [{ports: [{port: "5432", protocol: TCP}]}]
    - toEndpoints: [{matchLabels: {app: cache, "k8s:io.kubernetes.pod.namespace": data}}]
  egressDeny:
    - toEndpoints: [{matchLabels: {app: cache, "k8s:io.kubernetes.pod.namespace": data}}]
      toPorts: [{ports: [{port: "6380", protocol: TCP}]}]
`,
  // Cilium for the nodes themselves.
  nodes: `
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: nodes}
spec:
  nodeSelector: {}
  egress:
    - toEntities: [all]
  egressDeny:
    - toCIDR: [${two.ip4}/32]
      toPorts: [{ports: [{port: "25", protocol: TCP}]}]
`,
  // Calico: a tier of its own, with Log, Deny and Pass.
  security: `
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 100, defaultAction: Pass}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: security.data}
spec:
  tier: security
  order: 10
  namespaceSelector: kubernetes.io/metadata.name == 'data'
  types: [Egress]
  egress:
    - {action: Log, protocol: TCP, destination: {nets: [203.0.113.0/24]}}
    - {action: Deny, protocol: TCP, destination: {nets: [${two.ip4}/32]}}
    - {action: Pass}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: default.db, namespace: data}
spec:
  order: 50
  selector: app == 'db'
  types: [Egress]
  egress:
    - {action: Allow, protocol: TCP, destination: {nets: [${one.ip4}/32], ports: [443]}}
`,
  // ClusterNetworkPolicy: before and after all others.
  'cluster-wide': `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: no-telnet}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  egress:
    - {name: nobody uses telnet, action: Deny, to: [{networks: [0.0.0.0/0]}], protocols: [{tcp: {destinationPort: {number: 23}}}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: data-baseline}
spec:
  tier: Baseline
  priority: 10
  subject: {pods: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: data}}, podSelector: {matchLabels: {app: cache}}}}
  egress:
    - {name: one is fine, action: Accept, to: [{networks: [${one.ip4}/32]}]}
    - {name: nothing else outside, action: Deny, to: [{networks: [203.0.113.0/24]}]}
`,
  // Staged: it would deny what batch really does.
  'shop-batch': `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: batch
  namespace: shop
  annotations: {egress-agent.io/enforcement: audit}
spec:
  podSelector: {matchLabels: {app: batch}}
  policyTypes: [Egress]
  egress:
    - to: [{ipBlock: {cidr: ${one.ip4}/32}}]
      ports: [{protocol: TCP, port: 443}]
`,
  // Refused: the network is none.
  'shop-refused': `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: refused, namespace: shop}
spec:
  podSelector: {matchLabels: {app: nobody}}
  policyTypes: [Egress]
  egress:
    - to: [{ipBlock: {cidr: 203.0.113.300/24}}]
`,
};
