// Package clienttest tests what others make of package consul: Consul's own Go
// client, the discovery of Prometheus and consul-template, each as it is. It is a
// module of its own, so that nobody who builds peer builds them.
package clienttest
