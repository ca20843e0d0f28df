/** What a new policy begins with, by its language. Each is staged: it is counted before it denies anything. */

export const TEMPLATES: Readonly<Record<string, string>> = {
  networkpolicy: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: my-policy
  namespace: default
  annotations:
    egress-agent.io/enforcement: audit # staged: what it would deny is counted, and passes
spec:
  podSelector:
    matchLabels:
      app: my-app
  policyTypes:
    - Egress
  egress:
    # DNS
    - to:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: kube-system
          podSelector:
            matchLabels:
              k8s-app: kube-dns
      ports:
        - protocol: UDP
          port: 53
        - protocol: TCP
          port: 53
`,
  clusternetworkpolicy: `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata:
  name: my-policy
  annotations:
    egress-agent.io/enforcement: audit # staged: what it would deny is counted, and passes
spec:
  tier: Admin
  priority: 100
  subject:
    namespaces:
      matchLabels:
        kubernetes.io/metadata.name: default
  egress:
    - name: no-private-network
      action: Deny
      to:
        - networks:
            - 10.20.0.0/16
`,
  calico: `apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: my-policy
  namespace: default
  annotations:
    egress-agent.io/enforcement: audit # staged: what it would deny is counted, and passes
spec:
  order: 100
  selector: app == "my-app"
  types:
    - Egress
  egress:
    - action: Allow
      protocol: TCP
      destination:
        nets:
          - 203.0.113.10/32
        ports:
          - 443
`,
  cilium: `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: my-policy
  namespace: default
  annotations:
    egress-agent.io/enforcement: audit # staged: what it would deny is counted, and passes
spec:
  endpointSelector:
    matchLabels:
      app: my-app
  egress:
    - toFQDNs:
        - matchName: api.example.com
      toPorts:
        - ports:
            - port: "443"
              protocol: TCP
`,
  fqdn: `apiVersion: networking.gke.io/v1alpha1
kind: FQDNNetworkPolicy
metadata:
  name: my-policy
  namespace: default
  annotations:
    egress-agent.io/enforcement: audit # staged: what it would deny is counted, and passes
spec:
  podSelector:
    matchLabels:
      app: my-app
  egress:
    - matches:
        - name: api.example.com
      ports:
        - protocol: TCP
          port: 443
`,
};
