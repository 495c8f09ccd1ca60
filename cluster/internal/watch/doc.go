// Package watch keeps authenticated streams between peers and reports what they
// tell: who answers, who fell silent, whose stream broke and whose address
// refuses. A peer holds one outbound stream to each member that it watches. It
// writes a beat on it whenever the owner says so, and the other end echoes it.
// The kernel ends a stream within milliseconds of the process that held it.
//
// The package is a mechanism. It knows a peer as an ID and an address, holds no
// table of members, draws no conclusion and decides nothing about whom to watch:
// its owner calls [Watcher.Dial] and [Watcher.Hang], and judges each [Event] and
// [Link]. It opens no port: the owner passes dialled connections through
// [Config.Dial] and accepted ones to [Watcher.Accept].
//
// # Promises
//
//   - An event about a peer is the kernel's word (refused, broken, timed out) or
//     was said by somebody who holds a key in force, to this very handshake.
//   - A recorded stream that is replayed moves nothing: both ends give a nonce,
//     and the acceptor keeps the stream only after it has read a confirmation
//     that covers its own.
//   - A frame that no key signed ends its stream and is no evidence about the
//     peer. A stranger gets no answer to a hello.
//   - Beats, echoes and their reading allocate nothing and take no lock that two
//     streams share.
//   - [Watcher.Close] returns after the last goroutine has ended.
//
// It promises no secrecy: IDs and nonces travel in the clear. Without a key the
// MACs rest on the cluster's label alone, which keeps clusters apart and
// strangers out only by accident. Somebody on the path between two peers can
// still end a stream or refuse a dial; so can any router.
//
// # Wire format, version 2
//
// Numbers are big endian. Version 1 is the handshake without a confirmation that
// came before; it is not spoken.
//
//	hello    dialler → acceptor
//	    1    magic, 0xE7
//	    1    lowest version that the dialler speaks
//	    1    highest version that the dialler speaks
//	    2    length of the body, 33 to 512
//	   33    body: kind (1 watch, 2 probe), ID of the dialler 8, ID wanted 8, nonce 16
//	    …    rest of the body: fields of later versions, covered by the MAC, ignored
//	   16    MAC "hello" over all before
//
//	reply    acceptor → dialler
//	    1    version chosen: the highest in common, 0 for none
//	    1    lowest version that the acceptor speaks
//	    1    highest version that the acceptor speaks
//	    2    length of the body, 24 to 512
//	   24    body: ID of the acceptor 8, nonce 16
//	    …    rest of the body, as above
//	   16    MAC "reply" over the whole hello and all before
//
//	confirm  dialler → acceptor, kind watch only
//	   16    MAC "confirm" over the whole hello and the whole reply
//
//	frame    either way, after the confirm
//	    1    type: 'b' beat, 'e' echo, 'G' goodbye, 'L' leave; an unknown one is ignored
//	    8    MAC over the frame's number (8 bytes, from 0, not sent) and its type
//
// The dialler hangs up after the reply when it only probes, when another
// instance answers, or when no version is in common.
//
// All keys come from HMAC-SHA256:
//
//	secret  = HMAC(key, "peer watch" 00 label)        key: the one that signed the hello, may be empty
//	MAC of what over m = HMAC(secret, what 00 m), the first 16 bytes
//	frames  = HMAC(secret, direction 00 nonce of the hello, nonce of the reply)
//	MAC of a frame = HMAC(frames, number, type), the first 8 bytes
//
// where direction is "dialler" for what the dialler writes and "acceptor" for
// what the acceptor writes.
package watch
