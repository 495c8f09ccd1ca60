// Package agent is one peer as it runs on a host: it ties together who is alive
// (package cluster), whose turn it is (package selector) and who may go in
// (package lockclient), and answers for them on a local HTTP endpoint.
//
// The three know nothing of one another. Here the members that gossip calls
// eligible become the peers that the selector hands out, changes of the one and
// of the locks become one feed of events, and the figures of all become one
// Status, from which the page, the command line and the metrics draw.
//
// Start returns a running agent or an error with nothing left running. Stop is
// the polite end: not ready, own locks released, goodbye to the others, then
// silence. Kill is the end without a goodbye.
package agent
