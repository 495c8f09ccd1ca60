// Package balance is for Go programs that run beside an agent: it keeps the
// agent's view of a service in the program, so that the program picks a live
// peer in nanoseconds, and sends HTTP requests to one.
//
//	web, err := balance.Start(balance.Config{Service: "web"})
//	...
//	defer web.Close()
//	peer, err := web.Next() // peer.HostPort() is where to connect
//
// or, with retries on another peer:
//
//	client := http.Client{Transport: balance.NewTransport(web)}
//	resp, err := client.Get("http://web/")
//
// It imports agent/api, selector and the standard library only. The resolver
// for gRPC is a module of its own, in grpcresolver.
//
// # The view
//
// A [Watch] asks the local agent and is answered when something changes, so
// that it is as fresh as the agent: out of the agent's rotation is out of the
// program's some milliseconds later. A view is taken over whole or not at all.
//
// When the agent is away the last view stays, and [Watch.View] says how old it
// is and why there is no newer one. The program goes on; what fails meanwhile
// it finds out by itself, by [Watch.Report] or the outcomes that [Transport]
// sees. The Watch tries again after a tenth of a second, then ever more slowly
// up to every five seconds, at random moments, so that the programs of a host
// do not all come at once.
//
// An agent that has just started knows nobody at first. Its view is believed
// when it has everybody of the last one, or else when it has joined its
// cluster and [Config].Settle has passed. Indexes of an earlier start are not
// used on a later one: a blocking read goes only over the connection that its
// index came over, and a new connection begins with the question who answers.
// (Behind a proxy that hides a restart the view may be late by [Config].Wait.)
//
// A Watch is one request that waits at the agent, which has room for 128 of
// them. When there is none the Watch looks every few seconds.
//
// What it does not promise: that a peer which is handed out answers. It knows
// what gossip knows, which is out of date by milliseconds for a crash and by
// two seconds for silence.
package balance
