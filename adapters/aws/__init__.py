"""AWS as a source: EC2 instances, AMIs and snapshots, read by EBS direct, or exported to a bucket of the user's. No volume, instance or bucket is made."""

from adapters.aws.patience import Patience
from adapters.aws.refusals import Code
from adapters.aws.source import AwsSource, aws_source

__all__ = ["AwsSource", "Code", "Patience", "aws_source"]
