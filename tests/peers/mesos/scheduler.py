"""Starts a master and an agent in this process, and a framework whose tasks are told on standard input.

launch NAME ID PORT LABEL=VALUE... | kill ID | quit
"""
import sys
import threading

from mesos.interface import Scheduler, mesos_pb2
import mesos.scheduler

lock = threading.Lock()
wanted = []


class Framework(Scheduler):
    def resourceOffers(self, driver, offers):
        for offer in offers:
            with lock:
                words = wanted.pop(0) if wanted else None
            filters = mesos_pb2.Filters()
            filters.refuse_seconds = 0.2
            driver.launchTasks(offer.id, [task(offer, words)] if words else [], filters)


def task(offer, words):
    name, number, port = words[:3]
    made = mesos_pb2.TaskInfo()
    made.name, made.task_id.value, made.slave_id.value = name, number, offer.slave_id.value
    made.command.value = 'sleep 3600'
    for resource, amount in (('cpus', 0.1), ('mem', 32)):
        given = made.resources.add()
        given.name, given.type, given.scalar.value = resource, mesos_pb2.Value.SCALAR, amount
    given = made.resources.add()
    given.name, given.type = 'ports', mesos_pb2.Value.RANGES
    span = given.ranges.range.add()
    span.begin = span.end = int(port)
    made.discovery.visibility, made.discovery.name = mesos_pb2.DiscoveryInfo.CLUSTER, name
    told = made.discovery.ports.ports.add()
    told.number, told.name, told.protocol = int(port), 'http', 'tcp'
    for pair in words[3:]:
        label = made.labels.labels.add()
        label.key, label.value = pair.split('=')
    made.health_check.type, made.health_check.command.value = mesos_pb2.HealthCheck.COMMAND, 'true'
    return made


framework = mesos_pb2.FrameworkInfo()
framework.user, framework.name, framework.failover_timeout, framework.checkpoint = 'root', 'test', 3600, True
driver = mesos.scheduler.MesosSchedulerDriver(Framework(), framework, 'local')
driver.start()
while True:
    line = sys.stdin.readline()
    words = line.split()
    if not line or words[:1] == ['quit']:
        break
    if words[:1] == ['launch']:
        with lock:
            wanted.append(words[1:])
        driver.reviveOffers()
    elif words[:1] == ['kill']:
        gone = mesos_pb2.TaskID()
        gone.value = words[1]
        driver.killTask(gone)
driver.stop()
