"""What can run models here, said in words and tried out: engines, versions, devices."""
