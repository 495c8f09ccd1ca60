package lockclient_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/lockclient"
)

// Work that only one process at a time may do.
func ExampleClient_Do() {
	server := miniredis.NewMiniRedis() // or a real one
	if err := server.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client, err := lockclient.Start(lockclient.Config{URL: "redis://" + server.Addr()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	err = client.Do(context.Background(), "reports/daily", func(ctx context.Context, l *lockclient.Lock) error {
		fmt.Println("holding", l.Name())
		// ctx ends when the lock is lost: pass it on to all that is done here,
		// and l.Fence() to what checks it.
		return ctx.Err()
	})
	fmt.Println("done:", err)
	// Output:
	// holding reports/daily
	// done: <nil>
}

// A lock that is not waited for.
func ExampleClient_TryAcquire() {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ctx := context.Background()
	var clients []*lockclient.Client
	for _, node := range []string{"one", "two"} {
		c, err := lockclient.Start(lockclient.Config{URL: "redis://" + server.Addr(), Node: node, PID: 42, Command: "deploy"})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer c.Close()
		clients = append(clients, c)
	}
	lock, err := clients[0].TryAcquire(ctx, "deploy/web", lockclient.WithTTL(30*time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer lock.Release(ctx)

	_, err = clients[1].TryAcquire(ctx, "deploy/web")
	var held *lockclient.HeldError
	if errors.As(err, &held) {
		fmt.Println("busy:", held.Holder)
	}
	// Output:
	// busy: one (pid 42, deploy)
}

// A resource in Redis that refuses a holder who does not know yet that it lost.
func Example_fence() {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ctx := context.Background()
	resource := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer resource.Close()
	check := redis.NewScript(lockclient.FenceCheckLua)
	write := func(fence uint64, value string) {
		written, err := check.Run(ctx, resource, []string{"{config}", "{config}:fence"}, fence, value).Bool()
		fmt.Println(value, written, err)
	}

	const stale, current = 1795502696000001, 1795502711000001 // what Fence returned to two holders
	write(stale, "first")
	write(current, "second")
	write(stale, "first again") // its process slept through its time
	fmt.Println(resource.Get(ctx, "{config}").Val())
	// Output:
	// first true <nil>
	// second true <nil>
	// first again false <nil>
	// second
}
