package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/address"
	"github.com/peerhq/peer/cluster/internal/datadir"
)

var (
	// ErrUnknown: no member of that name.
	ErrUnknown = errors.New("no such member")
	// ErrLiving: the member is alive or suspect, and only the gone are forgotten.
	ErrLiving = errors.New("member is not gone")

	errClosing = errors.New("this peer is leaving")
)

// Cluster is this peer's membership: a running thing, made by Start. All
// methods may be called from any goroutine.
//
// Its goroutines: the transport's (packets, accept, one a mute stream), the
// dispatcher of events, the beat loop, the reconciler and its attempts, the
// saver, the key loop, the watch loop with a reader for each stream, and one for each dial,
// notice, record to fetch or name to settle; and the one that writes the log.
// Close ends and awaits them, that one for 100 ms at most. memberlist's own probes may outlive it by seconds; they touch
// nothing of ours.
type Cluster struct {
	cfg        Config
	logger     hclog.Logger // queues its lines, see logQueue
	lines      *logQueue
	started    time.Time
	ml         *memberlist.Memberlist
	trans      *transport
	broadcasts *memberlist.TransmitLimitedQueue
	rec        *reconciler
	store      *datadir.Dir
	warnings   []Warning // of the start; never changed after it

	view    atomic.Pointer[View]
	joined  atomic.Bool   // some other peer answered at least once
	closing chan struct{} // closed by Close
	leaving chan struct{} // closed by Leave
	answers chan struct{} // slots for records being sent

	keys    keyHolder
	keyring keyState
	gifts   gifts

	watchKick chan struct{} // the ring may have changed
	wg        sync.WaitGroup

	mu        sync.Mutex
	cond      *sync.Cond // the queue or the view changed, or closed is set
	rows      map[Instance]*row
	self      *row
	gone      map[Instance]time.Time // superseded, never to be admitted again
	known     map[string]datadir.Peer
	aged      time.Time // when known was last brought up to date
	prev      Instance  // the start before this one
	index     uint64
	dirty     bool
	queue     []Event
	beatOrder []*row // scratch
	beatTurn  uint64
	beatLeap  uint64 // added to this peer's counter, see staying
	noticeSeq uint64
	cutOff    bool      // no partner answers
	healing   bool      // healed is under way
	acked     time.Time // the last answer to a ping by UDP
	odd       int       // acks with another roster, less those with this one, see compare
	compared  time.Time // the last exchange for their sake
	ringRows  []*row
	ringAt    uint64 // index at which ringRows was made
	closed    bool
	left      bool

	renumbering bool  // renumber is under way
	saveErr     error // of the last write to the data dir
}

// Start makes this host a member: it binds the gossip port, then runs. It
// fails on a mistake in cfg and on a port that cannot be had, with
// nothing left running. A seed that does not answer is no failure: the peer
// is up, alone, and keeps trying.
func Start(cfg Config) (_ *Cluster, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Cluster{
		cfg:     cfg,
		lines:   newLogQueue(),
		started: time.Now(),
		closing: make(chan struct{}),
		leaving: make(chan struct{}),
		answers: make(chan struct{}, 16),

		watchKick: make(chan struct{}, 1),
		rows:      map[Instance]*row{},
		gone:      map[Instance]time.Time{},
		known:     map[string]datadir.Peer{},
	}
	c.cond = sync.NewCond(&c.mu)
	c.logger = c.lines.logger(cfg.Logger)
	defer func() {
		if err != nil {
			c.lines.close()
		}
	}()
	keys, err := firstKeys(cfg)
	if err != nil {
		return nil, err
	}
	c.keys.set.Store(keys)
	c.broadcasts = &memberlist.TransmitLimitedQueue{
		RetransmitMult: memberlist.DefaultLANConfig().RetransmitMult,
		NumNodes:       func() int { return len(c.View().Members) },
	}
	var seeds []address.Seed
	for _, s := range cfg.Seeds {
		p, err := address.ParseSeed(s, DefaultPort)
		if err != nil {
			return nil, err
		}
		seeds = append(seeds, p)
	}
	c.rec = newReconciler(seeds)

	c.store, err = datadir.Open(cfg.FS, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	r, warning := c.store.Load()
	c.prev, c.aged = Instance(r.Self), c.started
	if warning != "" {
		c.warn("data_dir", warning, "mend "+cfg.DataDir+" or name another --data-dir")
	}
	for _, p := range r.Peers {
		if p.Name != cfg.Name {
			c.known[p.Name] = p
		}
	}
	inst, err := newInstance(cfg.Now(), c.prev, cfg.Rand)
	if err != nil {
		return nil, err
	}
	c.index = uint64(inst.Started().UnixMilli())
	if err := c.open(inst); err != nil {
		return nil, err
	}
	return c, nil
}

// open binds the port, announces this peer and starts what runs.
func (c *Cluster) open(inst Instance) error {
	bind, err := address.ParseBind(c.cfg.Bind)
	if err != nil {
		return err
	}
	c.trans, err = openTransport(c.cfg.Network, bind)
	if err != nil {
		return err
	}
	if err := c.announceAt(inst, bind.Addr()); err != nil {
		_ = c.trans.Shutdown()
		return err
	}
	c.trans.guard.label, c.trans.guard.keys = c.cfg.Label, &c.keys
	c.trans.stale = c.staleKey
	c.trans.log = newMemberlistLogger(c.logger.Named("memberlist"), time.Now)
	ml, err := memberlist.Create(c.memberlistConfig(inst))
	if err != nil {
		_ = c.trans.Shutdown()
		return fmt.Errorf("start gossip: %w", err)
	}
	c.ml = ml
	c.trans.watch = c.acceptWatch
	c.trans.start()
	c.wg.Go(c.dispatch)
	c.wg.Go(c.beatLoop)
	c.wg.Go(c.watchLoop)
	c.wg.Go(c.keyLoop)
	c.wg.Go(c.reconcile)
	c.wg.Go(c.keep)
	return nil
}

// announceAt chooses the advertised address and makes this peer's own row.
func (c *Cluster) announceAt(inst Instance, bind netip.Addr) error {
	host, port, err := address.SplitAdvertise(c.cfg.Advertise)
	if err != nil {
		return err
	}
	chooser := address.Chooser{Bind: bind, Advertise: host, Resolver: c.cfg.Resolver}
	choice, err := chooser.Choose(context.Background())
	if err != nil {
		return err
	}
	ip := choice.Addr
	if choice.Warning != "" {
		c.warn("advertise", choice.Warning, "give --advertise the address at which others reach this host")
	}
	if port == 0 {
		port = c.trans.port()
	}
	c.trans.advertise = netip.AddrPortFrom(ip, port)
	if len(c.cfg.Keys) == 0 && !ip.IsLoopback() {
		c.warn("gossip_unencrypted", "gossip is not encrypted: whoever reaches "+c.trans.advertise.String()+" can forge members", "make a key with `peer keygen` and give it with --encrypt-file")
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	r := &row{swim: true, hash: ringHash(inst), m: Member{
		Name: c.cfg.Name, Instance: inst, Addr: c.trans.advertise, Self: true,
		State: Alive, Since: c.started, Version: c.cfg.Version, pulse: newPulse(c.started, c.started),
	}}
	c.self = r
	c.rows[inst] = r
	if err := c.setOwn(record{Tags: c.cfg.Tags, Services: c.cfg.Services}); err != nil {
		return err
	}
	c.emit(Joined, r)
	c.publish()
	return nil
}

func (c *Cluster) memberlistConfig(inst Instance) *memberlist.Config {
	d := delegate{c}
	m := memberlist.DefaultLANConfig() // LAN timing: the verdict stays as sure as it is
	m.Name = nodeName(c.cfg.Name, inst)
	m.Label = c.cfg.Label
	m.Transport = c.trans
	m.BindAddr = c.trans.advertise.Addr().String()
	m.BindPort = int(c.trans.advertise.Port())
	m.AdvertiseAddr, m.AdvertisePort = m.BindAddr, m.BindPort
	m.PushPullInterval = fullExchange
	m.EnableCompression = false // LZW costs 78 KB of garbage a packet and our packets are small
	m.Delegate, m.Events, m.Alive, m.Ping = d, d, d, d
	m.Logger = c.trans.log
	m.UDPBufferSize -= sealOverhead // encryption is the transport's, see seal
	return m
}

func (c *Cluster) warn(code, text, fix string) {
	c.warnings = append(c.warnings, Warning{Code: code, Text: text, Fix: fix})
	c.logger.Warn(text, "fix", fix)
}

// View returns the newest picture of the cluster. It takes no lock.
func (c *Cluster) View() *View {
	if v := c.view.Load(); v != nil {
		return v
	}
	return &View{}
}

// Changed returns when the View's Index is above index, or with ctx's error.
func (c *Cluster) Changed(ctx context.Context, index uint64) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cond.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.View().Index <= index {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.closed {
			return errClosing
		}
		c.cond.Wait()
	}
	return nil
}

// Self returns this peer as others see it.
func (c *Cluster) Self() Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.self.m
}

// Leave says goodbye to everybody, so that they show this peer as left at
// once, and waits until memberlist has spread it, at most until ctx is done. The
// peer keeps answering until Close; it cannot join again.
func (c *Cluster) Leave(ctx context.Context) error {
	c.mu.Lock()
	if c.left || c.closed {
		c.mu.Unlock()
		return nil
	}
	c.left = true
	close(c.leaving)
	now := time.Now()
	frame := farewellFrame(c.self.m.Instance, c.beatNow(now))
	var to []Member
	for _, r := range c.rows {
		if r != c.self && (r.m.State == Alive || r.m.State == Suspect) {
			to = append(to, r.m)
		}
	}
	c.set(c.self, Left, CauseLeft)
	c.publish()
	c.mu.Unlock()

	c.broadcasts.QueueBroadcast(recordBroadcast{owner: "left " + c.self.m.Instance.String(), frame: frame})
	for _, m := range to {
		node := &memberlist.Node{Name: nodeName(m.Name, m.Instance), Addr: m.Addr.Addr().AsSlice(), Port: m.Addr.Port()}
		if err := c.ml.SendBestEffort(node, frame); err != nil {
			c.logger.Debug("say goodbye", "member", m.Name, "addr", m.Addr.String(), "err", err)
		}
	}
	c.sayGoodbye()
	timeout := 2 * time.Second
	if d, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(d), time.Millisecond)
	}
	if err := c.ml.Leave(timeout); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// Close ends everything at once, without a goodbye unless Leave was called
// before. It may be called more than once, but not from OnEvent.
func (c *Cluster) Close() error {
	c.mu.Lock()
	first := !c.closed
	if first {
		c.closed = true
		close(c.closing)
		c.cond.Broadcast()
	}
	c.mu.Unlock()
	var err error
	if first {
		err = c.ml.Shutdown()
	}
	c.wg.Wait()
	c.lines.close()
	return err
}

// spawn runs f on a goroutine that Close waits for; false when it is too late.
// The caller holds c.mu.
func (c *Cluster) spawn(f func()) bool {
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

func (c *Cluster) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left || c.closed
}

// sleep waits for d; it reports false when the cluster closes or leaves first.
func (c *Cluster) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.closing:
	case <-c.leaving:
	}
	return false
}
