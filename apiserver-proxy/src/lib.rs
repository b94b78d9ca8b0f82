//! The front door, the kubelet of the virtual nodes, and the way out for tenants' API servers.
//!
//! Not built yet: until then each tenant's API server has a NodePort, and `kubectl exec`, `logs` and `attach` are refused.
