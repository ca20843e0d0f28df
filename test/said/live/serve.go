// A TLS server that answers nothing but a greeting, and tells which name each hello says: serve ADDRESS CERTIFICATE KEY
// GROUP, where the group is the only one (P-256 or P-521).
package main

import (
	"crypto/tls"
	"fmt"
	"os"
)

func main() {
	pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	if err != nil {
		panic(err)
	}
	groups := map[string]tls.CurveID{"P-256": tls.CurveP256, "P-521": tls.CurveP521}
	listener, err := tls.Listen("tcp", os.Args[1], &tls.Config{
		Certificates:     []tls.Certificate{pair},
		CurvePreferences: []tls.CurveID{groups[os.Args[4]]},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			fmt.Printf("{\"what\":\"hello\",\"sni\":%q}\n", hello.ServerName)
			return nil, nil
		},
	})
	if err != nil {
		panic(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer connection.Close()
			bytes := make([]byte, 4096)
			if _, err := connection.Read(bytes); err == nil {
				connection.Write([]byte("HTTP/1.0 200 OK\r\n\r\nhello"))
			}
		}()
	}
}
