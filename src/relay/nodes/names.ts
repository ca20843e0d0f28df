/** The namespace, labels and port of the agents' pods. The manifests in daemonset/ use the same. */
export const AGENT_NAMESPACE = 'egress-system';
export const AGENT_SELECTOR = 'app.kubernetes.io/name=egress-agent';
export const AGENT_PORT = 4245;
export const RELAY_SELECTOR = 'app.kubernetes.io/name=egress-relay';
/** The name in the relay's certificate, in whatever namespace it runs. */
export const RELAY_SERVER_NAME = 'egress-relay.egress-system.svc';
