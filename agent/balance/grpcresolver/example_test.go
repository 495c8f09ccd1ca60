package grpcresolver_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/peerhq/peer/agent"
	_ "github.com/peerhq/peer/agent/balance/grpcresolver" // for peer://
)

// A gRPC client of a service that runs wherever its agent says.
func Example() {
	addr, stop := grpcServer()
	defer stop()

	// In a program beside an agent with its usual address: peer:///greeter.
	conn, err := grpc.NewClient("peer://"+addr+"/greeter",
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := healthpb.NewHealthClient(conn)
	resp, err := client.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	fmt.Println(resp.GetStatus(), err)
	// Output:
	// SERVING <nil>
}

// grpcServer runs a gRPC server beside an agent, and returns where the agent
// answers.
func grpcServer() (agentAddr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	go func() { _ = s.Serve(l) }()

	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Bind, cfg.HTTP.Addr = "anna", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Services = []agent.ServiceConfig{{Name: "greeter", Port: uint16(l.Addr().(*net.TCPAddr).Port)}}
	a, err := agent.Start(cfg)
	if err != nil {
		panic(err)
	}
	return a.HTTPAddr(), func() {
		_ = a.Stop(context.Background())
		s.Stop()
	}
}
