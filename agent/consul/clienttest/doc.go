// Package clienttest tests what Consul's own Go client makes of package consul.
// It is a module of its own, so that nobody who builds peer builds that client.
package clienttest
